"""What this machine can say of itself: 1-wire thermometers, files of the kernel, its own state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.frames.checksums import crc8_maxim
from adapters.frames.onewire import decode
from adapters.host.one_wire import OneWire
from adapters.host.sysfs import Sysfs
from adapters.host.system import System
from adapters.sampled_device import SampledDevice
from gateway import DeviceError
from tests.adapters.notebook import Notebook, running

PUBLISHED = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"
ADDRESS = "28-0316a2795dff"


def w1_slave(degrees: float, *, verdict: str = "YES") -> str:
    """Return what the kernel shows of a sensor that says this."""
    raw = round(degrees * 16)
    scratchpad = raw.to_bytes(2, "little", signed=True) + bytes.fromhex("4b467fff0e10")
    shown = (scratchpad + bytes([crc8_maxim(scratchpad)])).hex(" ")
    return f"{shown} : crc={shown[-2:]} {verdict}\n{shown} t={raw * 1000 // 16}\n"


def sampled(adapter: SampledDevice) -> tuple[dict[str, Any], list[str]]:
    skipped: list[str] = []
    return adapter.sample(lambda reason, given=b"": skipped.append(reason)), skipped


def test_the_published_scratchpad() -> None:
    """Of the kernel's documentation: 23.125 degrees."""
    assert decode(PUBLISHED) == 23.125


@given(st.integers(-55 * 16, 125 * 16))
def test_every_temperature_of_the_sensor(sixteenths: int) -> None:
    """decode(encode(x)) == x, to the millidegree."""
    assert decode(w1_slave(sixteenths / 16)) == sixteenths * 1000 // 16 / 1000


@given(st.integers(0, 71))
def test_no_flipped_bit_becomes_a_temperature(bit: int) -> None:
    """A scratchpad that was disturbed has a wrong checksum, whatever the kernel says of it."""
    scratchpad = bytearray.fromhex("7201 4b46 7fff 0e10 57")
    scratchpad[bit // 8] ^= 1 << bit % 8
    shown = scratchpad.hex(" ")
    with pytest.raises(ValueError, match="wrong checksum"):
        decode(f"{shown} : crc={shown[-2:]} YES\n{shown} t=23125\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (w1_slave(20.0, verdict="NO"), "wrong checksum"),
        ("00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n", "shorted"),
        ("", "not what w1_slave says"),
        (PUBLISHED.replace("t=23125", "t=-127000"), "-127"),
        (PUBLISHED.replace("t=23125", "t=" + "9" * 100), "not what w1_slave says"),
    ],
)
def test_what_is_no_temperature_is_said(text: str, words: str) -> None:
    """Each way in which a sensor fails has its own words."""
    with pytest.raises(ValueError, match=words):
        decode(text)


@given(st.text(max_size=300))
def test_any_text_is_refused_or_read(text: str) -> None:
    """Nothing but ValueError comes of what is no scratchpad."""
    with pytest.raises(ValueError, match=r"\w"):
        decode(text)


def test_85_degrees_are_not_believed_out_of_the_blue(tmp_path: Path) -> None:
    """It is what a sensor says that has just got its power; of one that was at 80 degrees it is a temperature."""
    file = tmp_path / ADDRESS / "w1_slave"
    file.parent.mkdir()
    adapter = OneWire(address=ADDRESS, root=str(tmp_path))
    seen = []
    for degrees in (85.0, 21.0, 85.0, 80.0, 85.0, 85.0, 20.0):
        file.write_text(w1_slave(degrees))
        values, skipped = sampled(adapter)
        seen.append(values.get("temperature", skipped[0][:5] if skipped else None))
    assert seen == ["85 °C", 21.0, "85 °C", 80.0, 85.0, 85.0, 20.0]


def test_a_sensor_that_is_not_there(tmp_path: Path) -> None:
    """The message says which are there, or how to turn the bus on."""
    with pytest.raises(DeviceError, match="w1-gpio"):
        sampled(OneWire(address=ADDRESS, root=str(tmp_path / "none")))
    (tmp_path / "28-000000000001").mkdir()
    with pytest.raises(DeviceError, match="there is: 28-000000000001"):
        sampled(OneWire(address=ADDRESS, root=str(tmp_path)))
    with pytest.raises(ValidationError, match="must look like"):
        OneWire(address="28-0316A2795DFF")


def test_files_of_the_kernel(tmp_path: Path) -> None:
    """Numbers are scaled, words stay, a pattern finds the one file; one that cannot be read leaves the others alone."""
    (tmp_path / "hwmon7").mkdir()
    (tmp_path / "hwmon7" / "temp1_input").write_text("23125\n")
    (tmp_path / "state").write_text("Charging\n")
    (tmp_path / "raw").write_text("512\n")
    (tmp_path / "bad").write_text("none\n")
    files: dict[str, Any] = {
        "temperature": {"path": f"{tmp_path}/hwmon*/temp1_input", "scale": 0.001},
        "state": {"path": f"{tmp_path}/state", "text": True},
        "raw": {"path": f"{tmp_path}/raw"},
        "volts": {"path": f"{tmp_path}/raw", "offset": -12, "scale": 0.01},
        "bad": {"path": f"{tmp_path}/bad"},
        "gone": {"path": f"{tmp_path}/gone"},
    }
    values, skipped = sampled(Sysfs(files=files))
    assert values == {"temperature": 23.125, "state": "Charging", "raw": 512, "volts": 5.0}
    assert len(skipped) == 2
    (tmp_path / "hwmon8").mkdir()
    (tmp_path / "hwmon8" / "temp1_input").write_text("1\n")
    with pytest.raises(DeviceError, match="stands for 2 files"):
        sampled(Sysfs(files={"temperature": files["temperature"]}))


def test_this_machine() -> None:
    """What every Linux has is there, in plausible numbers."""
    values, _ = sampled(System())
    assert values["memory_available"] > 10**6
    assert values["disk_free"] >= 0
    assert 0 <= values["disk_used"] <= 100
    assert values["uptime"] > 0


def test_a_pi_with_weak_power(tmp_path: Path) -> None:
    """The bits of the firmware: now, and since boot."""
    file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    file.write_text("50005\n")
    values, _ = sampled(System(root=str(tmp_path)))
    flags = {name: value for name, value in values.items() if isinstance(value, bool)}
    assert flags == {
        "under_voltage": True,
        "frequency_capped": False,
        "throttled": True,
        "under_voltage_since_boot": True,
        "throttled_since_boot": True,
    }


async def test_readings_at_each_interval(tmp_path: Path) -> None:
    """A sensor that comes and goes is read while it is there, and its absence is said."""
    file = tmp_path / ADDRESS / "w1_slave"
    file.parent.mkdir()
    file.write_text(w1_slave(20.5))
    notes = Notebook()
    device = notes.device("d", OneWire(address=ADDRESS, root=str(tmp_path), interval=0.01))
    async with running(device):
        await notes.until(lambda: len(notes.readings) >= 3)
        file.unlink()
        await notes.until(lambda: notes.states[-1:] == [("d", False)])
        assert device.reason is not None
        assert "no sensor" in device.reason
        file.write_text(w1_slave(21.0))
        await notes.until(lambda: {"temperature": 21.0} in notes.of("d"))
