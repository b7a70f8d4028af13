"""What becomes of commands at their device: each gets one answer, and none waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import Adapter, Device
from gateway.devices.orders import QUEUE, Order, Orders, Outcome
from tests.adapters.notebook import Notebook, running
from tests.commands.obedient import Obedient, until


class Answers(list[Outcome]):
    """The answers to orders, in the order in which they were given."""

    def order(self, value: Any = 1, metric: str = "valve") -> Order:
        return Order(metric, value, None, self.append)


class Deaf(Adapter):
    """Takes no commands."""

    async def run(self, device: Device) -> None:
        """Be there."""
        device.online()
        await asyncio.Event().wait()


async def test_a_command_is_answered_by_its_device() -> None:
    """Done with what was read back, or refused with the reason; the first answer counts."""
    notes, answers = Notebook(), Answers()
    device = notes.device("d", Obedient())
    async with running(device):
        await notes.until(lambda: device.state == "online")
        for value in (5, "refuse", "twice"):
            device.order(answers.order(value), 10)
        await until(lambda: len(answers) == 3)
    assert answers == [Outcome("done", None, 5), Outcome("refused", "it will not"), Outcome("done", None, 1)]


async def test_an_absent_device_answers_at_once_with_the_reason() -> None:
    """Nobody waits for a device that is not there."""
    notes, answers = Notebook(), Answers()
    device = notes.device("d", Obedient(), bug_delay=3600)
    device.order(answers.order(), 10)
    assert answers.pop().result == "refused"
    async with running(device):
        await notes.until(lambda: device.state == "online")
    device.order(answers.order(), 10)
    assert answers == [Outcome("refused", "the device is absent")]


async def test_a_device_that_takes_no_commands_says_so_at_once() -> None:
    """Nothing waits for an adapter that does not look."""
    notes, answers = Notebook(), Answers()
    device = notes.device("d", Deaf())
    async with running(device):
        await notes.until(lambda: device.state == "online")
        device.order(answers.order(), 10)
        assert answers == [Outcome("refused", "the device takes no commands")]


async def test_a_device_that_is_lost_has_not_begun_what_waited() -> None:
    """What waited was certainly not carried out; of what had begun, nobody knows. Both are answered."""
    notes, answers = Notebook(), Answers()
    device = notes.device("d", Obedient())
    async with running(device):
        await notes.until(lambda: device.state == "online")
        for value in ("break", 1, 2):
            device.order(answers.order(value), 10)
        await until(lambda: len(answers) == 3)
    assert [answer.result for answer in answers] == ["refused", "refused", "failed"]
    assert "nobody knows" in str(answers[2].reason)


async def test_a_stop_answers_what_there_is() -> None:
    """No sender is left without an answer, and no timer behind."""
    notes, answers = Notebook(), Answers()
    device = notes.device("d", Obedient())
    async with running(device):
        await notes.until(lambda: device.state == "online")
        device.order(answers.order("ignore"), 10)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        device.order(answers.order("ignore"), 10)
    assert len(answers) == 2
    assert {answer.result for answer in answers} <= {"refused", "failed"}


async def test_a_device_without_an_answer_is_given_up() -> None:
    """It is then not known whether it was carried out, and an answer that comes later changes nothing."""
    notes, answers = Notebook(), Answers()
    device = notes.device("d", Obedient(), command_timeout=0.001)
    async with running(device):
        await notes.until(lambda: device.state == "online")
        order = answers.order("ignore")
        device.order(order, 10)
        await until(lambda: answers)
        order.done(7)
    assert [answer.result for answer in answers] == ["timed-out"]


async def test_what_has_waited_too_long_is_not_begun() -> None:
    """A command that expires while it waits for others is refused, and its device never sees it."""
    answers, orders = Answers(), Orders()
    orders.serve()
    orders.put(answers.order("late"), 0.001)
    await until(lambda: answers)
    assert answers == [Outcome("refused", "expired while it waited for others")]
    orders.put(answers.order("next"), 10)
    assert (await anext(orders)).value == "next"
    orders.close("over")


async def test_only_so_many_commands_wait_for_one_device() -> None:
    """A slow device's commands are bounded, those that it has begun included; an answer makes room."""
    answers, orders = Answers(), Orders()
    orders.serve()
    for value in range(QUEUE):
        orders.put(answers.order(value), 10)
    taken = [await anext(orders) for _ in range(3)]
    orders.put(answers.order("more"), 10)
    assert answers.pop() == Outcome("refused", f"{QUEUE} commands wait for the device already")
    taken[0].done()
    orders.put(answers.order("more"), 10)
    assert len(answers) == 1
    orders.close("over")
    assert len(answers) == QUEUE + 1


@pytest.fixture
async def restarted() -> AsyncIterator[Any]:
    notes = Notebook()
    device = notes.device("d", Obedient())
    async with running(device) as tasks:
        await notes.until(lambda: device.state == "online")
        yield notes, device, tasks


async def test_a_device_is_restarted(restarted: Any) -> None:
    """Its adapter is cancelled and begins again at once; a stop later still ends it."""
    notes, device, tasks = restarted
    for _ in range(3):
        notes.states.clear()
        device.restart()
        device.restart()
        await notes.until(lambda: notes.states == [("d", False), ("d", True)])
    assert device.failures == 0
    tasks[0].cancel()
    assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[0], asyncio.CancelledError)
    with pytest.raises(ValueError, match="not running"):
        device.restart()


async def test_a_restart_and_a_stop_at_once_are_a_stop(restarted: Any) -> None:
    """A restart does not swallow the cancellation that ends the gateway."""
    _, device, tasks = restarted
    device.restart()
    tasks[0].cancel()
    assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[0], asyncio.CancelledError)


async def test_a_device_that_waits_for_its_next_attempt_is_restarted_at_once() -> None:
    """Somebody who has plugged it in again need not wait for the longest delay."""
    notes = Notebook()
    broken: list[bool] = []

    class Breaks(Obedient):
        async def run(self, device: Device) -> None:
            """Break the first time."""
            if not broken:
                broken.append(True)
                raise RuntimeError("a bug")
            await super().run(device)

    device = notes.device("d", Breaks(), bug_delay=3600)
    async with running(device):
        await until(lambda: device.state == "failed")
        device.restart()
        await notes.until(lambda: device.state == "online")
