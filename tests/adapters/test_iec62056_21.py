"""A meter that is asked by IEC 62056-21, in modes A, B and C: over a pseudo-terminal that answers as a meter does."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.detection import Setting, guesses
from adapters.frames import iec62056_21
from adapters.serial.dsmr import Dsmr
from adapters.serial.iec62056_21 import Iec6205621
from gateway import registry
from tests.adapters.cable import Cable
from tests.adapters.frames.meters import block, readout
from tests.adapters.notebook import WAIT, Notebook, running

READOUT = block(["0.0.0(00123456)", "1.8.0(001234.567*kWh)", "1.8.0*01(001200.000*kWh)"])
VALUES = {"energy_import": 1234.567}


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    with Cable(tmp_path / "tty") as plugged:
        yield plugged


def meter(cable: Cable, **keys: Any) -> Iec6205621:
    adapter = registry.adapter("iec62056-21")(port=cable.path, **keys)
    assert isinstance(adapter, Iec6205621)
    return adapter


async def heard(cable: Cable, end: bytes) -> bytes:
    """Return what the gateway says, up to `end`."""
    said = b""
    async with asyncio.timeout(WAIT):
        while not said.endswith(end):
            try:
                said += os.read(cable.master, 1024)
            except (BlockingIOError, OSError):  # nothing yet, or nobody has it open
                await asyncio.sleep(0)
    return said


def speed(cable: Cable) -> int:
    fd = os.open(cable.terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        return int(termios.tcgetattr(fd)[4])
    finally:
        os.close(fd)


async def at_speed(cable: Cable, wanted: int) -> None:
    async with asyncio.timeout(WAIT):
        while speed(cable) != wanted:
            await asyncio.sleep(0)


async def test_it_asks_acknowledges_and_goes_over_to_the_speed_that_is_offered(cable: Cable) -> None:
    """Mode C: the question at 300 bit/s, the readout at the meter's own speed, and back for the next question."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable, interval=0.05))):
        for count in (1, 2):
            assert await heard(cable, b"\r\n") == b"/?!\r\n"
            assert speed(cable) == termios.B300
            cable.write(b"/?!\r\n/ISk5MT174-0001\r\n")  # an infrared head may hear itself
            assert await heard(cable, b"\r\n") == b"\x06050\r\n"
            await at_speed(cable, termios.B9600)
            cable.write(READOUT)
            await notes.until(lambda count=count: len(notes.readings) == count)  # type: ignore[misc]
    assert notes.of("m") == [VALUES, VALUES]


async def test_it_stays_at_the_first_speed_if_told_so(cable: Cable) -> None:
    """An infrared head that knows one speed only gets along with every meter."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable, faster=False, address="0042"))):
        assert await heard(cable, b"\r\n") == b"/?0042!\r\n"
        cable.write(b"/ISk5MT174-0001\r\n")
        assert await heard(cable, b"\r\n") == b"\x06000\r\n"
        assert speed(cable) == termios.B300
        cable.write(READOUT)
        await notes.until(lambda: notes.of("m") == [VALUES])


async def test_a_mode_a_meter_is_read_without_an_acknowledgement(cable: Cable) -> None:
    """A meter that offers no speed sends its readout at once; it may come in one piece with the first line."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable))):
        await heard(cable, b"\r\n")
        cable.write(b"/ABB\\VERSION\r\n" + READOUT)
        await notes.until(lambda: notes.of("m") == [VALUES])


@pytest.mark.parametrize(("sign", "wanted"), [(b"D", termios.B4800), (b"F", termios.B19200)])
async def test_a_mode_b_meter_goes_over_by_itself(cable: Cable, sign: bytes, wanted: int) -> None:
    """Mode B: nothing is acknowledged; the readout comes at the speed of the letter, whatever `faster` says."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable, interval=0.05, faster=False))):
        for count in (1, 2):
            assert await heard(cable, b"\r\n") == b"/?!\r\n"  # and nothing since the readout before
            assert speed(cable) == termios.B300
            cable.write(b"/LGZ" + sign + b"ZMD120\r\n")
            await at_speed(cable, wanted)
            cable.write(READOUT)
            await notes.until(lambda count=count: len(notes.readings) == count)  # type: ignore[misc]
    assert notes.of("m") == [VALUES, VALUES]


async def test_a_meter_that_speaks_as_fast_as_it_is_asked_stays_there(cable: Cable) -> None:
    """The acknowledgement names the speed at which the line is, and not 300 bit/s, which would part the two."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable, baudrate=2400))):
        await heard(cable, b"\r\n")
        cable.write(b"/LUG3UH50\r\n")
        assert await heard(cable, b"\r\n") == b"\x06030\r\n"
        assert speed(cable) == termios.B2400
        cable.write(READOUT)
        await notes.until(lambda: notes.of("m") == [VALUES])


async def test_a_meter_with_a_battery_is_woken_before_it_is_asked(cable: Cable) -> None:
    """NULs for as long as the config says, a pause, and then the question; noise before the answer is passed over."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable, wake=0.1, baudrate=1200))):
        assert await heard(cable, b"\r\n") == bytes(12) + b"/?!\r\n"
        cable.write(b"\0\0/ABB\\VERSION\r\n" + READOUT)
        await notes.until(lambda: notes.of("m") == [VALUES])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"/ISk5MT174-0001", (9600, True)),
        (b"/ISk5\\2MT382-1004", (9600, True)),
        (b"/LGZ0ABC", (300, True)),
        (b"/LGZAZMD", (600, False)),
        (b"/LGZEZMD", (9600, False)),
        (b"/ABB\\VERSION", (None, False)),
        (b"/XYZGVERSION", (None, False)),
    ],
)
def test_the_fifth_sign_of_a_meter_says_its_mode(line: bytes, expected: tuple[int | None, bool]) -> None:
    """A digit is mode C, a letter from A to F mode B, and anything else mode A."""
    assert iec62056_21.offer(line) == expected


# A Landis+Gyr E350, published by github.com/saliWd/strommesser, which reads one.
E350 = (
    b"\x02F.F(00)\r\n0.0(          120858)\r\nC.1.0(13647123)\r\nC.1.1(        )\r\n1.8.1(042951.721*kWh)\r\n"
    b"1.8.2(018609.568*kWh)\r\n2.8.1(000000.302*kWh)\r\n2.8.2(000010.188*kWh)\r\n1.8.0(061561.289*kWh)\r\n"
    b"2.8.0(000010.490*kWh)\r\n15.8.0(061571.780*kWh)\r\nC.7.0(0008)\r\n32.7(241*V)\r\n52.7(243*V)\r\n72.7(242*V)\r\n"
    b"31.7(000.35*A)\r\n51.7(000.52*A)\r\n71.7(000.47*A)\r\n82.8.1(0000)\r\n82.8.2(0000)\r\n0.2.0(M26)\r\n"
    b"C.5.0(0401)\r\n!\r\n\x03\x01"
)


async def test_a_published_readout_says_what_was_published(cable: Cable) -> None:
    """A real meter's readout in mode C, with its own block check, and codes without a tariff."""
    notes = Notebook()
    async with running(notes.device("m", meter(cable))):
        await heard(cable, b"\r\n")
        cable.write(b"/LGZ4ZMF100AC.M26\r\n")
        assert await heard(cable, b"\r\n") == b"\x06040\r\n"
        await at_speed(cable, termios.B4800)
        cable.write(E350)
        await notes.until(lambda: len(notes.readings) == 1)
    (values,) = notes.of("m")
    assert (values["energy_import"], values["energy_export"]) == (61561.289, 10.49)
    assert [values[f"voltage_l{phase}"] for phase in (1, 2, 3)] == [241.0, 243.0, 242.0]
    assert [values[f"current_l{phase}"] for phase in (1, 2, 3)] == [0.35, 0.52, 0.47]
    assert len(values) == 13


def test_the_present_period_may_have_a_number() -> None:
    """A meter that writes `*00` has no other present value; beside one without a number it is a past one."""
    assert iec62056_21.decode(b"1.8.0*00(007900.58)\r\n1.8.0*01(007000.00)\r\n") == {"energy_import": 7900.58}
    assert iec62056_21.decode(b"1.8.0*00(5*kWh)\r\n1.8.0(6*kWh)\r\n") == {"energy_import": 6.0}


def test_a_line_may_say_several_things() -> None:
    """The standard allows several values in a line, and a readout without a line for each is read as well."""
    readout = b"0.0.0(1)1.8.0(001234.567*kWh)1.8.0*01(001200.000*kWh)2.8.0(000005*kWh)\r\n!\r\n"
    assert iec62056_21.decode(readout) == {"energy_import": 1234.567, "energy_export": 5.0}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "no readout"),
        (b"/ISk\r\n", "not an identification"),
        (b"/ABB\\V\r\n" + READOUT.replace(b"1234.", b"1235."), "wrong checksum"),
        (b"/ABB\\V\r\n" + block(["0.0.0(1)"]), "no values in it"),
    ],
)
async def test_what_goes_wrong_is_said(cable: Cable, answer: bytes, reason: str) -> None:
    """Silence and nonsense leave the meter silent, with the reason in words, and it is asked again."""
    notes = Notebook()
    device = notes.device("m", meter(cable, timeout=WAIT if answer else 0.05))
    async with running(device):
        for _ in range(2):
            await heard(cable, b"\r\n")
            cable.write(answer)
        async with asyncio.timeout(WAIT):
            while not device.failures:
                await asyncio.sleep(0)
        assert reason in str(device.reason)
    assert notes.readings == []


async def test_what_speaks_unasked_is_found_in_mode_d() -> None:
    """The config that is printed for a meter that was listened to is one that listens."""
    heard = readout(["1-0:1.8.0*255(00052185.7825309*kWh)", "1-0:1.7.0*255(002124.86*W)"]) * 3
    kinds = {"dsmr": Dsmr, "iec62056-21": Iec6205621}
    best, *others = guesses(heard, Setting(9600), kinds, "/dev/ttyUSB0")
    assert (best.adapter, best.keys["mode"]) == ("iec62056-21", "D")
    assert others == []
