"""Devices that are asked, over a pseudo-terminal: what is asked, and what becomes of no answer or a wrong one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.frames import nova, sensirion_shdlc, winsen
from adapters.ports.serial import SerialPort
from adapters.serial.nova_sds011 import NovaSds011, tell
from adapters.serial.sensirion_sps30 import SensirionSps30
from adapters.serial.winsen_mhz19 import WinsenMhz19
from gateway import DeviceError
from tests.adapters.answering import Answering
from tests.adapters.frames.encoders import mhz19, sds011, sds011_confirmation, shdlc, sps30
from tests.adapters.notebook import WAIT, Notebook, running

READ = winsen.read()


def each(*answers: bytes) -> Any:
    """Return what gives one answer after the other, and the last one for ever."""
    rest: Iterator[bytes] = iter(answers)
    return lambda asked: next(rest, answers[-1])


async def test_a_device_is_asked_and_its_answer_is_a_reading(tmp_path: Path) -> None:
    """Nothing comes by itself: each reading is one question, as the data sheet has it."""
    notes = Notebook()
    with Answering(tmp_path / "tty", each(mhz19(600, 20), mhz19(601, 20), mhz19(602, 21))) as cable:
        async with running(notes.device("d", WinsenMhz19(port=cable.path, interval="10ms"))):
            await notes.until(lambda: len(notes.readings) >= 3)
        assert [values["co2"] for values in notes.of("d")[:3]] == [600, 601, 602]
        assert set(cable.asked) == {READ}
        assert len(cable.asked) - len(notes.readings) in (0, 1)


async def test_a_lost_answer_costs_no_reading(tmp_path: Path) -> None:
    """A device that is disturbed once is asked again within the same turn, and stays online."""
    notes = Notebook()
    answers = each(b"", mhz19(600, 20)[:4], mhz19(601, 20))
    with Answering(tmp_path / "tty", answers) as cable:
        device = notes.device("d", WinsenMhz19(port=cable.path, interval="10ms", timeout="300ms"))
        async with running(device):
            await notes.until(lambda: bool(notes.readings))
        assert notes.of("d")[0] == {"co2": 601, "temperature": 20}
        assert cable.asked[:3] == [READ] * 3
        assert device.failures == 0


@pytest.mark.parametrize(
    ("answer", "words"), [(b"", "nothing came"), (READ, "only its own question"), (b"\x12\x34", "are none.*12 34")]
)
async def test_a_device_that_does_not_answer_is_silent_and_says_what_came(
    tmp_path: Path, answer: bytes, words: str
) -> None:
    """Wiring, echo and noise are three faults with three remedies; told after three questions, never online."""
    notes = Notebook()
    with Answering(tmp_path / "tty", lambda asked: answer) as cable:
        device = notes.device("d", WinsenMhz19(port=cable.path, interval="10ms", timeout="30ms"))
        async with running(device), asyncio.timeout(WAIT):
            while device.state != "silent":
                await asyncio.sleep(0)
            assert re.search(words, str(device.reason))
        assert cable.asked[:3] == [READ] * 3
    assert notes.readings == []
    assert notes.states == []  # a port that opens is no sensor


@pytest.mark.parametrize(
    ("on", "command"), [(True, winsen.self_calibration(True)), (False, winsen.self_calibration(False))]
)
async def test_self_calibration_is_set_once_at_the_opening(tmp_path: Path, on: bool, command: bytes) -> None:
    """The sensor is told before the first question, which need not wait for an answer to that; and not if unasked."""
    notes = Notebook()
    with Answering(tmp_path / "tty", lambda asked: mhz19(500, 20) if asked.endswith(READ) else b"") as cable:
        async with running(notes.device("d", WinsenMhz19(port=cable.path, interval="10ms", self_calibration=on))):
            await notes.until(lambda: len(notes.readings) >= 3)
        written = b"".join(cable.asked)
    assert written.startswith(command + READ)
    assert written.count(command) == 1


async def test_an_sps30_is_told_to_measure_and_then_asked(tmp_path: Path) -> None:
    """It is idle until it is told; an answer without data is no reading yet; one that is late is not mistaken."""
    notes = Notebook()
    started = shdlc(0, 0, b"")
    answers = each(started, shdlc(3, 0, b""), started + sps30([1.5] * 10), sps30([2.5] * 10))
    with Answering(tmp_path / "tty", answers) as cable:
        async with running(notes.device("d", SensirionSps30(port=cable.path, interval="10ms"))):
            await notes.until(lambda: len(notes.readings) >= 2)
    assert cable.asked[:4] == [sensirion_shdlc.start()] + [sensirion_shdlc.read()] * 3
    assert [values["pm2_5"] for values in notes.of("d")[:2]] == [1.5, 2.5]


async def test_an_sps30_that_lost_its_power_is_told_to_measure_again(tmp_path: Path) -> None:
    """A sensor that is idle refuses to be read: it is prepared anew, without anybody's help."""
    notes = Notebook()
    measuring = False

    def answer(asked: bytes) -> bytes:
        nonlocal measuring
        if asked == sensirion_shdlc.start():
            measuring = True
            return shdlc(0, 0, b"")
        return sps30([1.5] * 10) if measuring else shdlc(3, 0x43, b"")

    with Answering(tmp_path / "tty", answer) as cable:
        device = notes.device("d", SensirionSps30(port=cable.path, interval="10ms"))
        async with running(device):
            await notes.until(lambda: len(notes.readings) >= 1)
            measuring = False
            await notes.until(lambda: ("d", False) in notes.states)
            assert "not allowed in this state" in str(device.reason)
            known = len(notes.readings)
            await notes.until(lambda: len(notes.readings) > known)
    assert cable.asked.count(sensirion_shdlc.start()) >= 2


async def test_an_sds011_gets_its_period_before_it_is_heard(tmp_path: Path) -> None:
    """It is woken first, because asleep it hears nothing else, and each command is confirmed, readings in between."""
    notes = Notebook()

    def answer(asked: bytes) -> bytes:
        readings = sds011(1, 1) + sds011_confirmation(asked)
        return readings + sds011(55, 110) if asked == nova.period(5) else readings

    with Answering(tmp_path / "tty", answer) as cable:
        async with running(notes.device("d", NovaSds011(port=cable.path, period="5m"))):
            await notes.until(lambda: ("d", True) in notes.states)
            cable.write(sds011(66, 120))
            await notes.until(lambda: bool(notes.readings))
    assert cable.asked == [nova.work(), nova.report(), nova.period(5)]
    assert notes.of("d") == [{"pm2_5": 6.6, "pm10": 12.0}]


async def test_an_sds011_without_a_period_is_only_listened_to(tmp_path: Path) -> None:
    """Nothing is written to a sensor whose settings nobody asked to change: its RX need not be connected."""
    notes = Notebook()
    with Answering(tmp_path / "tty", sds011_confirmation) as cable:
        async with running(notes.device("d", NovaSds011(port=cable.path))):
            await notes.until(lambda: ("d", True) in notes.states)
            cable.write(sds011(66, 120))
            await notes.until(lambda: bool(notes.readings))
        assert cable.asked == []


async def test_a_command_that_is_not_confirmed_is_repeated_and_then_a_fault(tmp_path: Path) -> None:
    """A wire that is missing is found out, and not taken for a sensor that does as it was told."""
    with Answering(tmp_path / "tty", each(sds011(1, 1), sds011_confirmation(nova.work()), sds011(1, 1))) as cable:
        async with SerialPort(cable.path) as port:
            await tell(port, nova.work(), 0.3)
            with pytest.raises(DeviceError, match="does not confirm 08 01 05"):
                await tell(port, nova.period(5), 0.02)
    assert cable.asked == [nova.work()] * 2 + [nova.period(5)] * 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"period": "90s"}, "whole minutes"),
        ({"period": "31m"}, "less than or equal"),
        ({"period": "5m", "silent_after": "5m"}, "not longer than period"),
    ],
)
def test_a_period_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValidationError, match=words):
        NovaSds011(port="/dev/ttyUSB0", **fields)
    assert NovaSds011(port="/dev/ttyUSB0", period="0s", silent_after="1m").period == 0
