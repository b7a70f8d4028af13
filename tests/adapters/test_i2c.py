"""Sensors on an I²C bus: the data sheets' own numbers, and chips that answer as these describe."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import bosch, sensirion_i2c
from adapters.i2c.devices import Bh1750, Bme280, Sht
from gateway import DeviceError

T = (27504, 26435, -1000)
P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
"""Of the data sheet of the BMP280, section 3.12: with 519888 and 415148 they make 25.08 °C and 100653.27 Pa."""
CALIBRATION = struct.pack("<HhhHhhhhhhhhxB", *T, *P, 75)
DATA = (415148 << 4).to_bytes(3, "big") + (519888 << 4).to_bytes(3, "big")


class Chip:
    """A chip with registers, or one that answers the last command."""

    def __init__(self, registers: dict[int, bytes] | None = None, answer: bytes = b"") -> None:
        self.registers = registers or {}
        self.answer = answer
        self.written: list[bytes] = []
        self.waited = 0.0

    def transfer(self, write: bytes, read: int) -> bytes:
        if write and not read:
            self.written.append(write)
            return b""
        found = self.registers[write[0]] if write else self.answer
        assert len(found) >= read
        return found[:read]

    def wait(self, seconds: float) -> None:
        self.waited += seconds


def test_the_numbers_of_the_data_sheet() -> None:
    """BMP280: 25.08 °C and 1006.53 hPa."""
    known = bosch.calibration(CALIBRATION)
    assert known == bosch.Calibration(T, P)
    assert bosch.decode(DATA, known) == {"temperature": 25.08, "pressure": 1006.53}


def test_a_bmp280_is_told_from_a_bme280() -> None:
    """By the number that it gives itself; it is asked for no humidity, and measures once."""
    chip = Chip({0xD0: b"\x58", 0x88: CALIBRATION, 0xF7: DATA})
    assert Bme280().measure(chip.transfer, chip.wait) == {"temperature": 25.08, "pressure": 1006.53}
    assert chip.written == [b"\xf4\x55"]
    assert chip.waited > 0


def test_a_bme280_measures_humidity_as_well() -> None:
    """Its twelve-bit numbers share a byte, and are signed."""
    h = struct.pack("<hB", 362, 0) + bytes([0x13, 0x29, 0x03, 0x1E])
    known = bosch.calibration(CALIBRATION, h)
    assert known.h == (75, 362, 0, 0x139, 0x32, 30)
    chip = Chip({0xD0: b"\x60", 0x88: CALIBRATION, 0xE1: h, 0xF7: DATA + (27000).to_bytes(2, "big")})
    found = Bme280().measure(chip.transfer, chip.wait)
    assert found["temperature"] == 25.08
    assert 30 < float(found["humidity"]) < 50
    assert chip.written[0] == b"\xf2\x01"


def test_humidity_stays_between_nothing_and_all() -> None:
    """Beyond its range it says 0 or 100."""
    known = bosch.calibration(CALIBRATION, struct.pack("<hB", 362, 0) + bytes([0x13, 0x29, 0x03, 0x1E]))
    assert bosch.decode(DATA + b"\x00\x00", known)["humidity"] == 0
    assert bosch.decode(DATA + b"\xff\xff", known)["humidity"] == 100


@pytest.mark.parametrize(
    ("registers", "words"),
    [
        ({0xD0: b"\x61"}, "no BME280: it calls itself 0x61"),
        ({0xD0: b"\x58", 0x88: bytes(26)}, "no calibration"),
        ({0xD0: b"\x58", 0x88: CALIBRATION, 0xF7: b"\x80\x00\x00" * 2}, "it has not measured"),
    ],
)
def test_what_is_no_measurement_is_said(registers: dict[int, bytes], words: str) -> None:
    """Another chip, one that is not ready, and one that did not measure."""
    chip = Chip(registers)
    with pytest.raises(ValueError, match=words):
        Bme280().measure(chip.transfer, chip.wait)


def test_the_checksum_of_the_data_sheet() -> None:
    """SHT3x: 0xBEEF has 0x92."""
    assert sensirion_i2c.crc(b"\xbe\xef") == 0x92


def sht(temperature: int, humidity: int) -> bytes:
    words = [number.to_bytes(2, "big") for number in (temperature, humidity)]
    return b"".join(word + bytes([sensirion_i2c.crc(word)]) for word in words)


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_every_word_of_an_sht(temperature: int, humidity: int) -> None:
    """Temperature from -45 to 130 °C, humidity from 0 to 100 %."""
    found = sensirion_i2c.decode(sht(temperature, humidity))
    assert found["temperature"] == pytest.approx(-45 + 175 * temperature / 65535, abs=0.006)
    assert found["humidity"] == pytest.approx(100 * humidity / 65535, abs=0.006)


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 47))
def test_no_flipped_bit_becomes_a_measurement(temperature: int, humidity: int, bit: int) -> None:
    """Each word has a checksum of its own."""
    answer = bytearray(sht(temperature, humidity))
    answer[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="wrong checksum"):
        sensirion_i2c.decode(bytes(answer))


@pytest.mark.parametrize(("kind", "command", "humidity"), [("sht3x", b"\x24\x00", 50.0), ("sht4x", b"\xfd", 56.5)])
def test_both_kinds_of_sht(kind: Any, command: bytes, humidity: float) -> None:
    """They are asked differently, and count humidity differently."""
    chip = Chip(answer=sht(0x6666, 0x8000))
    found = Sht(kind=kind).measure(chip.transfer, chip.wait)
    assert found == {"temperature": 25.0, "humidity": pytest.approx(humidity, abs=0.01)}
    assert chip.written == [command]


def test_light() -> None:
    """BH1750: 1.2 counts are a lux."""
    chip = Chip(answer=(1200).to_bytes(2, "big"))
    assert Bh1750().measure(chip.transfer, chip.wait) == {"illuminance": 1000.0}


@pytest.mark.parametrize("make", [Bme280, Sht, Bh1750])
def test_a_bus_that_is_not_there(make: Callable[..., Any]) -> None:
    """The message says how to turn it on."""
    with pytest.raises(DeviceError, match=r"there is no /dev/i2c-250. Fix: turn I²C on"):
        make(bus=250).sample(lambda reason, given=b"": None)
