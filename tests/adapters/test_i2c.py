"""Sensors on a simulated I²C bus: what they are asked, what becomes of it, and what is said when it is not right."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.i2c.ads1115 import Ads1115
from adapters.i2c.bh1750 import Bh1750
from adapters.i2c.ina2xx import Ina219, Ina226
from adapters.i2c.scd4x import Scd4x
from adapters.ports.simulated_i2c import SimulatedBus, SimulatedChip
from gateway import Adapter, registry
from gateway.devices import RunningDevice
from tests.adapters.chips import (
    CHIPS,
    NOT_READY,
    Ads,
    Bosch,
    Faulty,
    Light,
    Scd,
    Texas,
    ina219,
    sht3x,
    sht4x,
)
from tests.adapters.chips import (
    Ina226 as Ina226Chip,
)
from tests.adapters.notebook import Notebook, running


@asynccontextmanager
async def reading(
    folder: Path, name: str, chip: SimulatedChip | None, adapter: type[Adapter] | None = None, **keys: Any
) -> AsyncIterator[tuple[Notebook, RunningDevice]]:
    """Run one sensor; `chip` None: nobody is at its address."""
    address, _, more = CHIPS[name]
    with SimulatedBus(folder / "i2c", {} if chip is None else {address: chip}):
        notes = Notebook()
        given = {"bus": str(folder / "i2c"), "interval": "10ms", **more, **keys}
        device = notes.device("d", (adapter or registry.adapter(name))(**given))
        async with running(device):
            yield notes, device


async def first(folder: Path, name: str, chip: SimulatedChip, **keys: Any) -> dict[str, Any]:
    """Return the first reading."""
    async with reading(folder, name, chip, **keys) as (notes, _):
        await notes.until(lambda: bool(notes.readings))
    return notes.of("d")[0]


async def reason(folder: Path, name: str, chip: SimulatedChip | None, **keys: Any) -> str:
    """Return why it does not work."""
    async with reading(folder, name, chip, **keys) as (_, device):
        async with asyncio.timeout(10):
            while device.reason is None:
                await asyncio.sleep(0.005)
        return device.reason


@pytest.mark.parametrize(
    ("name", "chip", "keys", "expected"),
    [
        ("bme280", Bosch(), {}, {"temperature": 25.08, "pressure": 1006.53, "humidity": 38.28}),
        ("bme280", Bosch(0x58), {}, {"temperature": 25.08, "pressure": 1006.53}),
        ("bh1750", Light(), {}, {"illuminance": 28066.7}),
        ("sht", sht3x(), {}, {"temperature": 25.0, "humidity": 37.0}),
        ("sht", sht4x(0x6667, 0x8000), {"kind": "sht4x"}, {"temperature": 25.0, "humidity": 56.5}),
        ("scd4x", Scd(), {}, {"co2": 500, "temperature": 25.0, "humidity": 37.0}),
        (
            "ina219",
            ina219(),
            {"shunt": 0.002, "max_current": 32.768},
            {"voltage": 11.98, "shunt_voltage": 0.02, "current": 10.0, "power": 119.8},
        ),
        (
            "ina226",
            Ina226Chip(),
            {"shunt": 0.002, "max_current": 32.768},
            {"voltage": 11.98, "shunt_voltage": 0.02, "current": 10.0, "power": 119.8},
        ),
        (
            "ads1115",
            Ads({4: 16000, 3: -32000}),
            {"inputs": {"battery": {"pins": "0"}, "current": {"pins": "2-3", "range": 0.256}}},
            {"battery": 2.0, "current": -0.25},
        ),
        (
            "ads1115",
            Ads({7: 2046 << 4}),
            {"kind": "ads1015", "rate": 3300, "inputs": {"level": {"pins": "3", "range": 6.144}}},
            {"level": 6.138},
        ),
    ],
)
async def test_each_sensor_tells_what_its_data_sheet_says(
    tmp_path: Path, name: str, chip: SimulatedChip, keys: dict[str, Any], expected: dict[str, float]
) -> None:
    """The published examples, through the whole way from the bus to the reading."""
    assert await first(tmp_path, name, chip, **keys) == pytest.approx(expected, abs=0.03)


async def test_a_bmp280_is_asked_for_no_humidity(tmp_path: Path) -> None:
    """It has none; a BME280 is told to measure it before it is told to measure."""
    chip = Bosch(0x58)
    await first(tmp_path, "bme280", chip)
    assert set(chip.written) == {b"\xf4\x55"}
    chip = Bosch()
    await first(tmp_path, "bme280", chip)
    assert chip.written[:2] == [b"\xf2\x01", b"\xf4\x55"]


async def test_an_ina_is_set_anew_each_time(tmp_path: Path) -> None:
    """It forgets its calibration when its power fails, and would then say that nothing flows."""
    chip = ina219()
    async with reading(tmp_path, "ina219", chip, shunt=0.002, max_current=32.768) as (notes, _):
        await notes.until(lambda: len(notes.readings) >= 3)
    calibrations = [one for one in chip.written if one[0] == 5]
    assert len(calibrations) >= 3
    assert set(calibrations) == {b"\x05\x50\x00"}


@pytest.mark.parametrize(
    ("name", "chip", "words"),
    [
        ("bme280", Bosch(0x61), r"no BME280 or BMP280: it is a BME680 or BME688"),
        ("bme280", Bosch(0x55), r"it is a BMP180"),
        ("bme280", Bosch(0x7F), r"by its id 0x7f"),
        ("ina226", Ina226Chip(0x2270), r"at 0x40 is no INA226: it is an INA260"),
        ("ina226", ina219(), r"no INA226, by its ids 0x0000 and 0x0000; an INA219\?"),
        ("ina219", Ina226Chip(), r"no INA219: it looks like an INA226"),
        ("bme280", None, r"nobody answers at 0x76 on .*: check wiring, power and address; .* is at 0x76 or 0x77$"),
    ],
)
async def test_another_chip_is_called_by_its_name(
    tmp_path: Path, name: str, chip: SimulatedChip | None, words: str
) -> None:
    """Whoever bought the wrong one learns which one it is, and where the right one would be."""
    found = await reason(tmp_path, name, chip)
    with pytest.raises(ValueError, match=words):
        raise ValueError(found)


def disturbed(number: int, every: int) -> Any:
    """Return a fault that flips a bit of each answer but one in `every`."""

    def fault(count: int, answer: bytes) -> bytes:
        return bytes([answer[0] ^ 1, *answer[1:]]) if answer and (count // 2) % every != number else answer

    return fault


async def test_a_disturbed_answer_costs_no_reading(tmp_path: Path) -> None:
    """It is asked for again at once, and counted; a sensor of which every answer is disturbed counts as lost."""
    async with reading(tmp_path, "sht", Faulty(sht3x(), disturbed(0, 3))) as (notes, device):
        await notes.until(lambda: len(notes.readings) >= 3)
        assert notes.of("d")[0] == {"temperature": 25.0, "humidity": 37.0}
        assert device.skipped["wrong checksum"] >= 4
        assert device.failures == 0
    assert await reason(tmp_path, "sht", Faulty(sht3x(), disturbed(1, 1))) == "wrong checksum"


async def test_one_transfer_that_nobody_acknowledges_costs_no_reading(tmp_path: Path) -> None:
    """As after a spike on a long wire: no change of state, and no word."""

    def fault(count: int, answer: bytes) -> bytes:
        if count in (1, 4):
            raise OSError(errno.EREMOTEIO, "spike")
        return answer

    async with reading(tmp_path, "sht", Faulty(sht3x(), fault)) as (notes, device):
        await notes.until(lambda: len(notes.readings) >= 3)
        assert device.failures == 0
        assert notes.states == [("d", True)]


@pytest.mark.parametrize(
    ("name", "chip", "keys", "words"),
    [
        ("ina219", Texas({1: 0x07D0, 2: 3, 3: 1, 4: 1}), {}, "the current is beyond its range"),
        ("ina219", Texas({1: 0x7D00, 2: 2, 3: 1, 4: 1}), {}, "the current is beyond its range"),
        ("ads1115", Ads({4: 0x7FFF, 5: 0x7FFF}), {}, "battery is beyond its range of 4.096 V"),
        ("bh1750", Light(0xFFFF), {}, "brighter than it can tell"),
    ],
)
async def test_what_is_beyond_the_range_is_no_reading(
    tmp_path: Path, name: str, chip: SimulatedChip, keys: dict[str, Any], words: str
) -> None:
    """A number at the end of the scale may mean any that is larger: it is counted, and the device stays online."""
    async with reading(tmp_path, name, chip, **keys) as (_, device):
        async with asyncio.timeout(10):
            while device.skipped.get(words, 0) < 3:
                await asyncio.sleep(0.005)
        assert device.state == "online"
        assert device.failures == 0


async def test_an_input_beyond_its_range_leaves_the_others_alone(tmp_path: Path) -> None:
    """Of two inputs the one that can be measured is."""
    assert await first(tmp_path, "ads1115", Ads({4: 0x7FFF, 3: 16384})) == {"current": 0.128}


async def test_an_scd4x_is_set_before_it_measures_and_stopped_at_the_end(tmp_path: Path) -> None:
    """Stopped first, as it may still run; settings with their checksums; then started; stopped when the gateway is."""
    chip = Scd()
    await first(tmp_path, "scd4x", chip, altitude=1950, self_calibration=True, low_power=True)
    told = [one for one in chip.given if one[:1] not in (b"\xe4", b"\xec")]
    expected = ["3f86", "3682", "2427 079e 09", "2416 0001 b0", "21ac", "3f86"]
    assert told == [bytes.fromhex(one) for one in expected]
    chip = Scd()
    await first(tmp_path, "scd4x", chip, altitude=None, self_calibration=None, pressure=987)
    told = [one for one in chip.given if one[:1] not in (b"\xe4", b"\xec")]
    assert told == [bytes.fromhex(one) for one in ("3f86", "3682", "e000 03db 42", "21b1", "3f86")]


async def test_an_scd4x_that_has_lost_its_power_is_started_again(tmp_path: Path) -> None:
    """It then answers that nothing is ready, for ever."""

    class Hasty(Scd4x):
        periods = (0.02, 0.02)

    chip = Scd()
    async with reading(tmp_path, "scd4x", chip, Hasty) as (notes, device):
        await notes.until(lambda: bool(notes.readings))
        chip.measures = False
        seen = len(notes.readings)
        await notes.until(lambda: len(notes.readings) >= seen + 3)
        assert device.failures == 1
        assert chip.given.count(b"\x21\xb1") == 2


async def test_an_scd4x_without_anything_new_gives_no_reading(tmp_path: Path) -> None:
    """It is asked more often than it measures: online, and silent about it."""

    class Slow(Scd):
        def transfer(self, write: bytes, read: int) -> bytes:
            answer = super().transfer(write, read)
            return NOT_READY if self.given[-1] == b"\xe4\xb8" and read else answer

    chip = Slow()
    async with reading(tmp_path, "scd4x", chip) as (notes, device):
        await notes.until(lambda: notes.states == [("d", True)])
        async with asyncio.timeout(10):
            while chip.given.count(b"\xe4\xb8") < 5:
                await asyncio.sleep(0.005)
        assert notes.readings == []
        assert device.state == "online"


@pytest.mark.parametrize(
    ("kind", "keys", "words"),
    [
        (Ina219, {"max_current": 20}, "20 A through 0.1 Ω make 2 V, and an INA219 measures 0.32 V"),
        (Ina226, {"shunt": 0.1, "max_current": 1}, "an INA226 measures 0.0819 V"),
        (Ina226, {"average": 2}, "average"),
        (Ads1115, {"inputs": {}}, "inputs"),
        (Ads1115, {"inputs": {"a": {"pins": "1-2"}}}, "pins"),
        (Ads1115, {"inputs": {"a": {"pins": "1", "range": 5}}}, "must be one of 6.144, 4.096"),
        (Ads1115, {"inputs": {"a": {"pins": "1"}}, "rate": 3300}, "an ads1115 has 8, 16"),
        (Scd4x, {"altitude": 100, "pressure": 1000}, "altitude and pressure say the same"),
        (Bh1750, {"bus": "i2c-1"}, "bus"),
        (Bh1750, {"address": 0x78}, "address"),
    ],
)
def test_what_cannot_be_is_refused_with_the_config(kind: Any, keys: dict[str, Any], words: str) -> None:
    """Before anything is opened, in words."""
    with pytest.raises(ValidationError, match=words):
        kind(**keys)
