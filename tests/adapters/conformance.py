"""What stands in for the device of each built-in adapter, so that one suite runs over all of them.

A device that speaks by itself on a serial port needs nothing here: it says what its first golden case without
`skipped.json` says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.frames import sensirion_shdlc, winsen
from adapters.serial_device import FramedDevice
from gateway import registry
from gateway.testing import NoDevice, SerialStandIn, StandIn
from tests.adapters.frames import encoders
from tests.adapters.test_cases import CASES, fields_of, stream_of


def mhz19(folder: Path) -> StandIn:
    """An MH-Z19 that answers whenever it is asked."""
    answer = encoders.mhz19(636, 26)
    return SerialStandIn(folder, answers=lambda asked: answer * asked.count(winsen.read()), interval="5ms")


def sps30(folder: Path) -> StandIn:
    """An SPS30 that measures at once when it is told to."""

    def answers(asked: bytes) -> bytes:
        if asked == sensirion_shdlc.read():
            return encoders.sps30([1.0] * 10)
        return encoders.shdlc(0x00, 0, b"")

    return SerialStandIn(folder, answers=answers, interval="5ms")


STAND_INS: dict[str, Callable[[Path], StandIn]] = {
    "sensirion-sps30": sps30,
    "simulator": lambda folder: NoDevice(interval="1ms"),
    "winsen-mhz19": mhz19,
}


def from_case(name: str) -> Callable[[Path], StandIn] | None:
    """Return what says what a golden case says; None if there is no such case."""
    for case in sorted(CASES.glob(f"{name}/*/")):
        if not (case / "skipped.json").exists():
            return lambda folder, case=case: SerialStandIn(folder, stream_of(case), **fields_of(case))
    return None


def stand_in_of(name: str) -> Callable[[Path], StandIn] | None:
    """Return what makes the stand-in of an adapter in a folder; None if there is none."""
    if name in STAND_INS:
        return STAND_INS[name]
    return from_case(name) if issubclass(registry.adapter(name), FramedDevice) else None
