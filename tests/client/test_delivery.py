"""A delivery ends once, and everybody who waits for it hears of it, in loops and in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from gateway.client.delivery import KEPT, Deliveries, Delivery, Outcome
from gateway.client.errors import CalledFromCallback, NotDelivered


def delivery(deliveries: Deliveries, number: int = 1) -> Delivery:
    made = Delivery()
    deliveries.add(number, made)
    return made


async def test_an_acknowledgement_wakes_every_task_that_waits() -> None:
    """Any number of tasks may await one delivery; each gets the outcome."""
    deliveries = Deliveries()
    made = delivery(deliveries)
    tasks = [asyncio.ensure_future(_outcome(made)) for _ in range(3)]
    await asyncio.sleep(0)
    deliveries.ended([1], None)
    assert await asyncio.gather(*tasks) == [Outcome.ACKNOWLEDGED] * 3
    assert made.done
    made.result()


async def test_a_cancelled_await_leaves_the_delivery_and_the_others_alone() -> None:
    """To cancel an await is to wait no more, and nothing else."""
    deliveries = Deliveries()
    made = delivery(deliveries)
    cancelled, patient = asyncio.ensure_future(_outcome(made)), asyncio.ensure_future(_outcome(made))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    assert cancelled.cancelled()
    assert made.state == "pending"
    deliveries.ended([1], None)
    assert await patient == "acknowledged"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (None, Outcome.ACKNOWLEDGED),
        ("full", Outcome.DROPPED),
        ("count", Outcome.DROPPED),
        ("too-old", Outcome.DROPPED),
        ("disk-error", Outcome.DROPPED),
        ("rejected", Outcome.REJECTED),
        ("poison", Outcome.REJECTED),
        ("topic has 9 levels; aws-iot takes at most 8", Outcome.REJECTED),
    ],
)
async def test_the_fate_decides_the_outcome(reason: str | None, outcome: Outcome) -> None:
    """What a bound gives up is dropped; what no broker will ever take is rejected; the reason is kept."""
    deliveries = Deliveries()
    made = delivery(deliveries)
    deliveries.ended([1], reason)
    assert (await made, made.reason) == (outcome, reason)
    if reason is not None:
        with pytest.raises(NotDelivered, match=reason) as told:
            made.result()
        assert told.value.outcome == outcome


def test_each_delivery_is_told_once() -> None:
    """A fate that comes twice is told once, and nothing is kept of what is over."""
    deliveries = Deliveries()
    told: list[Delivery] = []
    made = [delivery(deliveries, number) for number in range(1, 4)]
    deliveries.on_done = told.append
    deliveries.ended([1, 2], None)
    assert told == made[:2]
    assert len(deliveries) == 1
    assert [one.state for one in made] == ["acknowledged", "acknowledged", "pending"]


def test_messages_of_an_earlier_run_are_told_too() -> None:
    """Whoever listens for deliveries hears of those that this run has not published."""
    deliveries = Deliveries()
    deliveries.ended([7], None)  # nobody listens
    told: list[Delivery] = []
    deliveries.on_done = told.append
    deliveries.ended([8], "poison")
    assert [(one.id, one.state, one.reason) for one in told] == [(8, "rejected", "poison")]


async def test_the_end_of_a_client_ends_what_is_left() -> None:
    """Without a store it is dropped; with one it stays pending, and nobody waits for ever."""
    deliveries = Deliveries()
    made = delivery(deliveries)
    deliveries.close(kept=False)
    assert (await made, made.reason) == ("dropped", "closed")

    made = delivery(deliveries)
    waiting = asyncio.ensure_future(_outcome(made))
    await asyncio.sleep(0)
    deliveries.close(kept=True)
    assert (await waiting, made.reason, made.done) == ("pending", KEPT, True)
    assert await made == "pending"
    with pytest.raises(NotDelivered, match="pending: closed; it stays in the store"):
        made.result()


def test_a_thread_waits_for_a_delivery_that_a_loop_ends() -> None:
    """`wait` blocks its thread until the end, whichever thread brings it."""
    deliveries = Deliveries()
    made = [delivery(deliveries, number) for number in range(50)]
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda one=one: outcomes.append(one.wait(5.0))) for one in made for _ in "ab"]
    for thread in threads:
        thread.start()
    deliveries.ended(range(50), None)
    for thread in threads:
        thread.join(5.0)
    assert outcomes == [Outcome.ACKNOWLEDGED] * 100


def test_a_wait_that_takes_too_long_says_pending() -> None:
    """A timeout is not an error: the message is still on its way."""
    made = delivery(Deliveries())
    assert made.wait(0.0) == "pending"
    assert made.wait(0.001) is Outcome.PENDING


async def test_to_wait_on_a_loop_is_refused() -> None:
    """It would stop the very loop that brings the end; a delivery that is over needs no waiting."""
    deliveries = Deliveries()
    made = delivery(deliveries)
    with pytest.raises(CalledFromCallback, match="await delivery"):
        made.wait()
    deliveries.ended([1], None)
    assert made.wait() == "acknowledged"


def test_a_loop_can_await_what_another_thread_ends() -> None:
    """A delivery of one client can be awaited in any loop."""
    deliveries = Deliveries()
    made = delivery(deliveries)
    waiting = threading.Event()

    def end() -> None:
        waiting.wait(5.0)
        deliveries.ended([1], None)

    thread = threading.Thread(target=end)
    thread.start()

    async def wait() -> Outcome:
        asyncio.get_running_loop().call_soon(waiting.set)
        async with asyncio.timeout(5.0):
            return await made

    assert asyncio.run(wait()) == "acknowledged"
    thread.join()


def test_a_waiter_whose_loop_is_gone_harms_nobody() -> None:
    """What nobody waits for any more is passed over."""
    deliveries = Deliveries()
    made = delivery(deliveries)

    async def give_up() -> None:
        waiting = asyncio.ensure_future(_outcome(made))
        await asyncio.sleep(0)
        assert not waiting.done()

    asyncio.run(give_up())
    told: list[Callable[[], None]] = []
    made._tell(lambda: told.append(lambda: None))
    deliveries.ended([1], None)
    assert len(told) == 1


async def _outcome(made: Delivery) -> Outcome:
    return await made
