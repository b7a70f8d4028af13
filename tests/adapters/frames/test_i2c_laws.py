"""What sensors on an I²C bus say: the data sheets' own examples, and laws that hold for all of their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import ads1x15, bosch, ina2xx, rohm, sensirion_i2c
from tests.adapters.chips import CALIBRATION, DATA, HUMIDITY, P, T, words

U16 = st.integers(0, 0xFFFF)
KNOWN = bosch.calibration(CALIBRATION, HUMIDITY)


def test_the_example_of_bosch() -> None:
    """BMP280, section 3.12: 25.08 °C and 100653.27 Pa."""
    known = bosch.calibration(CALIBRATION)
    assert known == bosch.Calibration(T, P)
    assert bosch.decode(DATA, known) == {"temperature": 25.08, "pressure": 1006.53}
    assert KNOWN.h == (75, 362, 0, 0x139, 0x32, 30)


def whole_humidity(raw: int, fine: int, h: tuple[int, ...]) -> float:
    """Return the humidity as the data sheet's other formula has it: in whole numbers of 32 bits, 1/1024 %."""
    shift = fine - 76800
    left = ((raw << 14) - (h[3] << 20) - h[4] * shift + 16384) >> 15
    right = ((shift * h[5]) >> 10) * (((shift * h[2]) >> 11) + 32768) >> 10
    found = left * (((right + 2097152) * h[1] + 8192) >> 14)
    found -= ((((found >> 15) * (found >> 15)) >> 7) * h[0]) >> 4
    return (min(max(found, 0), 419430400) >> 12) / 1024


NUMBERS = st.tuples(*(st.integers(*one) for one in ((0, 100), (300, 450), (0, 120), (200, 400), (-100, 100), (0, 60))))
"""Calibrations for humidity, as widely as those of real chips lie apart."""


@given(U16, st.integers(300000, 700000).filter(lambda raw: raw != bosch.UNMEASURED), NUMBERS)
def test_both_formulas_for_humidity_agree(raw: int, temperature: int, h: tuple[int, ...]) -> None:
    """The data sheet of the BME280 gives one in whole numbers (section 4.2.3) and one in floating point (8.1)."""
    data = bytes(3) + (temperature << 4).to_bytes(3, "big") + raw.to_bytes(2, "big")
    found = bosch.decode(data, bosch.Calibration(T, P, h))
    assert found["humidity"] == pytest.approx(whole_humidity(raw, round(found["temperature"] * 5120), h), abs=0.1)
    assert 0 <= found["humidity"] <= 100


@pytest.mark.parametrize(
    ("data", "words"), [(b"\x80\0\0" * 2, "has not measured"), (b"\x80\0\0\x80\0\0\x80\0", "has not measured")]
)
def test_what_was_not_measured_is_no_reading(data: bytes, words: str) -> None:
    """A chip that has just got its power says 0x80000."""
    with pytest.raises(ValueError, match=words):
        bosch.decode(data, KNOWN)


@pytest.mark.parametrize(("first", "h"), [(bytes(26), b""), (bytes(25), b""), (CALIBRATION, b"123")])
def test_what_is_no_calibration_is_refused(first: bytes, h: bytes) -> None:
    """A chip that is not ready has zeros in its place."""
    with pytest.raises(ValueError, match=r"no calibration|not a calibration"):
        bosch.calibration(first, h)


def test_the_examples_of_sensirion() -> None:
    """SHT3x: 0xBEEF has 0x92. SCD4x: 500 ppm, 25 °C, 37 %; 1950 m, 98.7 kPa; 0x8000 is not ready, 0x8006 is."""
    assert sensirion_i2c.crc(b"\xbe\xef") == 0x92
    measured = bytes.fromhex("01f4 33 6667 a2 5eb9 3c")
    assert sensirion_i2c.decode_scd4x(measured) == {"co2": 500, "temperature": 25.0, "humidity": 37.0}
    assert sensirion_i2c.words(bytes.fromhex("f896 31 9f07 c2 3bbe 89")) == [0xF896, 0x9F07, 0x3BBE]
    assert sensirion_i2c.command(sensirion_i2c.ALTITUDE, 1950) == bytes.fromhex("2427 079e 09")
    assert sensirion_i2c.command(sensirion_i2c.PRESSURE, 987) == bytes.fromhex("e000 03db 42")
    assert sensirion_i2c.command(sensirion_i2c.SELF_CALIBRATION, 1) == bytes.fromhex("2416 0001 b0")
    assert sensirion_i2c.command(sensirion_i2c.START) == bytes.fromhex("21b1")
    assert not sensirion_i2c.is_ready(bytes.fromhex("8000 a2"))
    assert sensirion_i2c.is_ready(words(0x8006))


@given(U16, U16)
def test_every_word_of_an_sht(temperature: int, humidity: int) -> None:
    """Temperature from -45 to 130 °C, humidity from 0 to 100 %; an SHT4x counts from -6 to 119 % and is cut off."""
    found = sensirion_i2c.decode(words(temperature, humidity))
    assert found["temperature"] == pytest.approx(-45 + 175 * temperature / 65535, abs=0.006)
    assert found["humidity"] == pytest.approx(100 * humidity / 65535, abs=0.006)
    fourth = sensirion_i2c.decode(words(temperature, humidity), offset=-6.0, span=125.0)
    assert fourth["humidity"] == pytest.approx(min(100, max(0, -6 + 125 * humidity / 65535)), abs=0.006)


@given(st.lists(U16, min_size=1, max_size=3), st.data())
def test_no_flipped_bit_becomes_a_measurement(numbers: list[int], data: st.DataObject) -> None:
    """Each word has a checksum of its own."""
    answer = bytearray(words(*numbers))
    assert sensirion_i2c.words(bytes(answer)) == numbers
    bit = data.draw(st.integers(0, len(answer) * 8 - 1))
    answer[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="wrong checksum"):
        sensirion_i2c.words(bytes(answer))


def test_the_example_of_rohm() -> None:
    """BH1750: 0x8390 is 28067 lx; at its end it knows nothing."""
    assert rohm.decode(b"\x83\x90") == pytest.approx(28067, abs=0.5)
    assert rohm.decode(b"\x01\x10") == pytest.approx(227, abs=0.5)
    assert rohm.decode(b"\xff\xff") is None


@pytest.mark.parametrize(
    ("kind", "calibration", "registers"),
    [
        (ina2xx.INA219, 0x5000, (0x07D0, 0x5D98, 0x1766, 0x2710)),
        (ina2xx.INA226, 0x0A00, (0x1F40, 0x2570, 0x12B8, 0x2710)),
    ],
)
def test_the_examples_of_texas_instruments(kind: ina2xx.Kind, calibration: int, registers: tuple[int, ...]) -> None:
    """INA219, table 8, and INA226, table 1: 10 A through 2 mΩ at 12 V are 20 mV, 11.98 V and 119.8 W."""
    setting = ina2xx.Setting(kind, 0.002, calibration, 0x399F)
    assert setting.step == pytest.approx(0.001)
    found = ina2xx.decode(setting, *registers)
    assert found == {"voltage": 11.98, "shunt_voltage": 0.02, "current": 10.0, "power": pytest.approx(119.8, abs=0.03)}


@pytest.mark.parametrize(
    ("kind", "shunt", "current", "calibration", "config"),
    [
        # 32.768 A are 1 mA for each step: the data sheets' own calibrations.
        (ina2xx.INA219, 0.002, 32.768, 0x5000, 0x2000 | 1 << 11 | 0b1100 << 7 | 0b1100 << 3 | 3),
        (ina2xx.INA226, 0.002, 32.768, 0x0A00, 0x4000 | 2 << 9 | 0b100100 << 3 | 3),
        (ina2xx.INA219, 0.1, 3.2, 4194, 0x2000 | 3 << 11 | 0b1100 << 7 | 0b1100 << 3 | 3),
        (ina2xx.INA226, 0.1, 0.8, 2097, 0x4527),
    ],
)
def test_how_they_are_set(kind: ina2xx.Kind, shunt: float, current: float, calibration: int, config: int) -> None:
    """The smallest range that the current fits into, and the calibration that uses all steps of it."""
    found = ina2xx.plan(kind, shunt, current, 16)
    assert (found.calibration, f"{found.config:#06x}") == (calibration, f"{config & ~7 | 3:#06x}")


@given(
    st.sampled_from([ina2xx.INA219, ina2xx.INA226]), st.floats(0.0005, 1.0), st.floats(0.05, 1.0), st.floats(-1.0, 1.0)
)
def test_any_shunt_tells_the_current_that_flows(kind: ina2xx.Kind, shunt: float, full: float, part: float) -> None:
    """What the chip makes of the shunt's voltage with its calibration is the current again, as long as it fits in."""
    highest = kind.ranges[-1] / shunt * full
    setting = ina2xx.plan(kind, shunt, highest, 1)
    assert 0 < setting.calibration <= kind.highest
    flowing = highest * part * 0.99
    raw = round(flowing * shunt / kind.shunt_step)
    register = int(raw * setting.calibration / (4096 if kind is ina2xx.INA219 else 2048))
    assert -0x8000 <= register <= 0x7FFF
    found = ina2xx.decode(setting, raw & 0xFFFF, 0, 0, register & 0xFFFF)
    assert found["current"] == pytest.approx(flowing, abs=kind.shunt_step / shunt + setting.step + 1e-6)
    assert not ina2xx.is_beyond(setting, raw & 0xFFFF) or full * abs(part) > 0.9


def test_what_does_not_fit_is_refused_in_words() -> None:
    """20 A through 0.1 Ω would burn before it could be measured."""
    with pytest.raises(ValueError, match=r"20 A through 0.1 Ω make 2 V, and an INA219 measures 0.32 V: .* up to 3.2"):
        ina2xx.plan(ina2xx.INA219, 0.1, 20, 16)
    setting = ina2xx.plan(ina2xx.INA219, 0.1, 0.4, 16)
    for raw, beyond in ((4000, True), (-4000 & 0xFFFF, True), (3990, False)):
        assert ina2xx.is_beyond(setting, raw) is beyond


@pytest.mark.parametrize(
    ("kind", "pins", "full_scale", "rate", "written"),
    [
        # The reset value, 0x8583, measures 0 against 1 at 2.048 V, 128 times a second.
        ("ads1115", "0-1", 2.048, 128, "01 8583"),
        ("ads1115", "0", 4.096, 128, "01 c383"),
        ("ads1115", "3", 6.144, 860, "01 f1e3"),
        ("ads1115", "2-3", 0.256, 8, "01 bb03"),
        ("ads1015", "0-1", 2.048, 1600, "01 8583"),
    ],
)
def test_how_a_measurement_is_begun(kind: str, pins: str, full_scale: float, rate: int, written: str) -> None:
    """Each bit is where the data sheet has it."""
    assert ads1x15.start(kind, pins, full_scale, rate) == bytes.fromhex(written)


@given(st.sampled_from(ads1x15.RANGES), st.integers(-0x7FFF, 0x7FFE))
def test_every_step_of_an_ads1115(full_scale: float, steps: int) -> None:
    """A step is full scale / 32768: 125 µV at 4.096 V; the last ones mean beyond."""
    answer = steps.to_bytes(2, "big", signed=True)
    assert ads1x15.decode("ads1115", answer, full_scale) == pytest.approx(steps * full_scale / 32768, abs=1e-7)
    for end in (b"\x7f\xff", b"\x80\x00"):
        assert ads1x15.decode("ads1115", end, full_scale) is None


@given(st.integers(-2047, 2046))
def test_every_step_of_an_ads1015(steps: int) -> None:
    """Its twelve bits stand at the top of the same register: 2 mV at 4.096 V."""
    answer = (steps * 16).to_bytes(2, "big", signed=True)
    assert ads1x15.decode("ads1015", answer, 4.096) == pytest.approx(steps * 0.002)
    assert ads1x15.decode("ads1015", b"\x7f\xf0", 4.096) is None


def test_settings_that_did_not_stay_are_found() -> None:
    """A chip that was reset meanwhile measures something else."""
    started = ads1x15.start("ads1115", "0", 4.096, 128)
    assert ads1x15.is_ready(b"\xc3\x83", started)
    assert not ads1x15.is_ready(b"\x43\x83", started)
    with pytest.raises(ValueError, match="does not keep its settings"):
        ads1x15.is_ready(b"\x85\x83", started)


@pytest.mark.parametrize(
    "decode",
    [sensirion_i2c.decode, sensirion_i2c.decode_scd4x, sensirion_i2c.is_ready, lambda data: bosch.decode(data, KNOWN)],
)
@given(data=st.binary(min_size=8, max_size=20))
def test_any_bytes_are_read_or_refused(decode: Callable[[bytes], Any], data: bytes) -> None:
    """Nothing but ValueError comes of what is no answer."""
    try:
        decode(data)
    except ValueError as error:
        assert str(error)  # noqa: PT017
