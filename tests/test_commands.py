"""Whether a command may be carried out, what becomes of it at its device, and that each gets one answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Adapter, Device, DeviceError
from gateway.devices.commands import LARGEST, Answered, Arrival, Asked, parse, patience
from gateway.devices.orders import QUEUE, Order, Orders, Outcome
from tests.adapters.notebook import Notebook, running

NOW, STARTED, AGE = 1_800_000_000.0, 1_799_990_000.0, 30.0
HERE = Arrival()


def said(**content: Any) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"21.5", 21.5),
        (b" 7\n", 7),
        (b"true", True),
        (b'"on"', "on"),
        (b"on", "on"),
        ("größer".encode(), "größer"),
        (b'{"value": 3}', 3),
        (b"1e999", "1e999"),
    ],
)
def test_a_payload_is_a_plain_value_or_an_object(payload: bytes, value: Any) -> None:
    """What a person types into mosquitto_pub is enough."""
    asked = parse(payload)
    assert asked == Asked(asked.content)
    assert asked.content["value"] == value
    assert type(asked.content["value"]) is type(value)


def test_an_object_says_who_when_and_until_when() -> None:
    """Times are in UTC milliseconds, as in readings; a number is an id as well."""
    assert parse(said(value=1, id=17, ts=NOW * 1000, expires=NOW * 1000 + 500)) == Asked(
        {"value": 1, "id": 17, "ts": NOW * 1000, "expires": NOW * 1000 + 500}, "17", NOW, NOW + 0.5
    )


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "nothing in it"),
        (b"  ", "nothing in it"),
        (b"{", "not valid JSON"),
        (b"\xff", "not UTF-8"),
        (b"{}", 'no "value"'),
        (b"x" * (LARGEST + 1), "longer than"),
        (said(value=1, id=True), "neither text nor"),
        (said(value=1, id=""), "1 to 256"),
        (said(value=1, id="x" * 257), "1 to 256"),
        (said(value=1, ts="now"), "ts is no number"),
        (said(value=1, expires=[]), "expires is no number"),
    ],
)
def test_what_is_no_command_is_refused_with_the_reason(payload: bytes, reason: str) -> None:
    """Whoever sent it is told what is wrong with it."""
    with pytest.raises(ValueError, match=reason):
        parse(payload)


@given(st.binary(max_size=200))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    """Anybody can publish anything."""
    try:
        asked = parse(payload)
    except ValueError:
        return
    assert "value" in asked.content


def asked(**more: Any) -> Asked:
    return Asked({"value": 1}, **more)


@pytest.mark.parametrize(
    ("command", "arrival", "seconds"),
    [
        (asked(), HERE, AGE),
        (asked(), Arrival(left=4), 4.0),
        (asked(), Arrival(left=4, kept=True), 4.0),
        (asked(time=NOW - 10), HERE, AGE - 10),
        (asked(time=NOW - 10, expires=NOW + 7), Arrival(kept=True), 7.0),
        (asked(time=NOW - 10, id="1"), Arrival(again=True), AGE - 10),
        (asked(time=NOW + 4), HERE, AGE),
        (asked(expires=NOW + 3600), HERE, AGE),
    ],
)
def test_how_long_a_command_may_wait(command: Asked, arrival: Arrival, seconds: float) -> None:
    """The least counts of what is left by ts and max_age, by expires and by the broker's own count."""
    assert patience(command, arrival, NOW, STARTED, AGE) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("command", "arrival", "now", "reason"),
    [
        (asked(), Arrival(retained=True), NOW, "retained"),
        (asked(), Arrival(kept=True), NOW, "needs ts or expires"),
        (asked(id="1"), Arrival(kept=True), NOW, "needs ts or expires"),
        (asked(), Arrival(again=True), NOW, "delivered again"),
        (asked(id="1"), Arrival(again=True), NOW, "delivered again"),
        (asked(time=NOW), Arrival(again=True), NOW, "delivered again"),
        (asked(), Arrival(left=0), NOW, "expired"),
        (asked(expires=NOW), HERE, NOW, "expired"),
        (asked(expires=NOW - 5, time=NOW - 10), HERE, NOW, "expired"),
        (asked(time=NOW - AGE), HERE, NOW, "30 s old, and may be 30 s old"),
        (asked(time=NOW - 3600, expires=NOW + 3600), HERE, NOW, "3600 s old"),
        (asked(time=NOW + 6), HERE, NOW, "in the future"),
        (asked(time=STARTED - 1), HERE, STARTED + 2, "before the gateway started"),
        (asked(time=NOW), HERE, None, "clock is not set"),
        (asked(expires=NOW + 1), HERE, None, "clock is not set"),
    ],
)
def test_what_is_never_carried_out(command: Asked, arrival: Arrival, now: float | None, reason: str) -> None:
    """What is old, or may be, or may have been carried out before, is refused; and so is what nobody can know."""
    with pytest.raises(ValueError, match=reason):
        patience(command, arrival, now, STARTED, AGE)


@given(
    age=st.floats(-100, 100),
    expires=st.floats(-100, 100) | st.none(),
    left=st.floats(0, 100) | st.none(),
    kept=st.booleans(),
)
def test_nothing_waits_longer_than_max_age(
    age: float, expires: float | None, left: float | None, *, kept: bool
) -> None:
    """Whatever a command says of itself, it is begun within max_age of when it was sent, by the gateway's clock."""
    command = asked(time=NOW - age, expires=None if expires is None else NOW + expires)
    try:
        seconds = patience(command, Arrival(left=left, kept=kept), NOW, STARTED, AGE)
    except ValueError:
        return
    assert 0 < seconds <= AGE
    assert seconds <= AGE - age + 1e-6
    assert expires is None or seconds <= expires + 1e-6
    assert left is None or seconds <= left


def test_only_the_newest_are_remembered() -> None:
    """The memory of ids is bounded."""
    answered = Answered[int](limit=3)
    for number in range(5):
        answered.put(str(number), number)
    assert [answered.get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]
    assert len(answered) == 3


# ---- at the device


class Answers(list[Outcome]):
    """The answers to orders, in the order in which they were given."""

    def order(self, value: Any = 1, metric: str = "valve") -> Order:
        return Order(metric, value, None, self.append)


class Obedient(Adapter):
    """Does with each command what its value says."""

    async def run(self, device: Device) -> None:
        """Serve commands."""
        commands = device.commands()
        device.online()
        async for command in commands:
            match command.value:
                case "refuse":
                    command.refuse("it  will\nnot")
                case "ignore":
                    pass
                case "break":
                    raise DeviceError("unplugged")
                case "end":
                    return
                case "twice":
                    command.done(1)
                    command.refuse("no")
                case value:
                    command.done(value)


class Deaf(Adapter):
    """Takes no commands."""

    async def run(self, device: Device) -> None:
        """Be there."""
        device.online()
        await asyncio.Event().wait()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


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
    notes, broken = Notebook(), []

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
