"""The kernel's GPIO lines: what is asked of gpiod, what is said when it refuses, and the real thing on gpio-sim."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import gpiod
import pytest
from pydantic import ValidationError

from adapters.gpio.counter import GpioCounter
from adapters.gpio.input import GpioInput
from adapters.gpio.output import GpioOutput
from adapters.ports.gpio import find, open_kernel, settings
from adapters.ports.gpio_line import TakenOver, Wanted
from gateway import DeviceError
from gateway.devices.orders import Order
from tests.adapters.notebook import Notebook, running


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted("L"), {"edge_detection": "BOTH", "direction": "INPUT", "bias": "AS_IS", "active_low": False}),
        (Wanted("L", falling=False, active_low=True), {"edge_detection": "RISING", "active_low": True}),
        (Wanted("L", bias="pull-up", debounce=0.02), {"bias": "PULL_UP", "debounce_period": 0.02}),
        (Wanted("L", bias="disabled"), {"bias": "DISABLED", "event_clock": "MONOTONIC"}),
        (
            Wanted("L", output=True, drive="open-drain", bias="pull-down"),
            {"direction": "OUTPUT", "output_value": "ACTIVE", "drive": "OPEN_DRAIN", "bias": "PULL_DOWN"},
        ),
        (Wanted("L", output=False), {"output_value": "INACTIVE", "drive": "PUSH_PULL", "edge_detection": "NONE"}),
    ],
)
def test_settings(wanted: Wanted, expected: dict[str, Any]) -> None:
    """Each key becomes what gpiod calls it, and gpiod takes it."""
    made = settings(gpiod, wanted)
    found = {name: getattr(made, name) for name in expected}
    plain = {name: getattr(one, "name", one) for name, one in found.items()}
    if "debounce_period" in plain:
        plain["debounce_period"] = plain["debounce_period"].total_seconds()
    assert plain == expected


class Machine:
    """Stands in for gpiod on a machine with these chips: label and names of lines by file name."""

    def __init__(self, folder: Path, **chips: tuple[str, list[str]]) -> None:
        machine = self
        self.chips = chips
        self.refused: dict[str, int] = {}
        self.consumers: dict[tuple[str, int], str] = {}  # who has which line
        for name in chips:
            (folder / name).write_text("")

        class Chip:
            def __init__(self, path: str) -> None:
                self.name = Path(path).name
                if self.name in machine.refused:
                    raise OSError(machine.refused[self.name], os.strerror(machine.refused[self.name]))
                self.label, self.lines = machine.chips[self.name]

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                return

            def get_info(self) -> Any:
                return SimpleNamespace(name=self.name, label=self.label, num_lines=len(self.lines))

            def get_line_info(self, offset: int) -> Any:
                consumer = machine.consumers.get((self.name, offset), "")
                return SimpleNamespace(name=self.lines[offset], used=bool(consumer), consumer=consumer)

            def request_lines(self, lines: dict[int, Any], **_: Any) -> None:
                (offset,) = lines
                code = errno.EBUSY if (self.name, offset) in machine.consumers else errno.EIO
                raise OSError(code, os.strerror(code))

        self.Chip = Chip
        self.line = gpiod.line
        self.LineSettings = gpiod.LineSettings


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Pi with an expander that has names of its own, one of them the same."""
    pins = [f"GPIO{n}" for n in range(28)]
    return Machine(
        tmp_path,
        gpiochip0=("pinctrl-bcm2711", pins),
        gpiochip1=("raspberrypi-exp-gpio", ["BT_ON", "", "GPIO4"]),
        gpiochip10=("mcp23017", ["", ""]),
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted("GPIO17"), ("gpiochip0", 17)),
        (Wanted("BT_ON"), ("gpiochip1", 0)),
        (Wanted("GPIO4", "pinctrl-bcm2711"), ("gpiochip0", 4)),
        (Wanted("GPIO4", "gpiochip1"), ("gpiochip1", 2)),
        (Wanted(1, "mcp23017"), ("gpiochip10", 1)),
    ],
)
def test_a_line_is_found_by_name_or_by_chip_and_offset(
    machine: Machine, tmp_path: Path, wanted: Wanted, found: tuple[str, int]
) -> None:
    """The name of the line is enough where it is the only one; the chip has a label, a name and a path."""
    assert find(machine, wanted, str(tmp_path)) == (str(tmp_path / found[0]), found[1])
    if wanted.chip is not None:
        by_path = Wanted(wanted.line, str(tmp_path / found[0]))
        assert find(machine, by_path, str(tmp_path)) == (str(tmp_path / found[0]), found[1])


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            Wanted("GPIO4"),
            r'is "GPIO4": "GPIO4" \(.*gpiochip0 4, pinctrl-bcm2711\), .*gpiochip1 2, .*; say which with chip',
        ),
        (Wanted("GPIO99"), r'no line "GPIO99"; there are gpiochip0 \(pinctrl-bcm2711, 28 lines\), gpiochip1'),
        (Wanted(7, "mcp23017"), 'no line number 7 on chip "mcp23017"'),
        (Wanted("GPIO17", "pinctrl-rp1"), 'no line "GPIO17" on chip "pinctrl-rp1"'),
    ],
)
def test_a_line_that_is_not_found_is_told_what_there_is(
    machine: Machine, tmp_path: Path, wanted: Wanted, words: str
) -> None:
    """The message names what was looked for and what there is instead."""
    with pytest.raises(DeviceError, match=words):
        find(machine, wanted, str(tmp_path))


def test_a_line_is_found_by_who_has_it_and_taken_over_once_it_is_free(machine: Machine, tmp_path: Path) -> None:
    """While it is in use that is said; given back it has that name no more, and it is known where it was."""
    machine.consumers = {("gpiochip0", 17): "old-daemon", ("gpiochip1", 0): "bluetooth"}
    sought = TakenOver("old-daemon")
    with pytest.raises(DeviceError, match=r'line 17 of .*gpiochip0 is in use by "old-daemon": it is taken over once'):
        open_kernel(Wanted(sought), str(tmp_path), machine)
    del machine.consumers["gpiochip0", 17]
    machine.consumers["gpiochip0", 22] = "other"
    assert find(machine, Wanted(sought), str(tmp_path)) == (str(tmp_path / "gpiochip0"), 17)
    # It comes back with another line.
    machine.consumers["gpiochip0", 18] = "old-daemon"
    assert find(machine, Wanted(sought), str(tmp_path)) == (str(tmp_path / "gpiochip0"), 18)
    # Another chip has that number now, as after an expander was plugged in anew.
    machine.consumers.clear()
    machine.chips["gpiochip0"] = ("mcp23017", machine.chips["gpiochip0"][1])
    with pytest.raises(DeviceError, match=r'there is no line in use by "old-daemon"; there are'):
        find(machine, Wanted(sought), str(tmp_path))


def test_two_lines_in_use_under_one_name_are_both_named(machine: Machine, tmp_path: Path) -> None:
    """Nobody knows which is meant; on one chip it is enough to say the chip."""
    machine.consumers = {("gpiochip0", 17): "daemon", ("gpiochip0", 4): "daemon", ("gpiochip1", 0): "daemon"}
    words = r'in use by "daemon": "GPIO4" \(.* 4, .*\), "GPIO17" \(.* 17, .*\), "BT_ON" \(.* 0, .*\); say which'
    with pytest.raises(DeviceError, match=words):
        find(machine, Wanted(TakenOver("daemon")), str(tmp_path))
    wanted = Wanted(TakenOver("daemon"), "raspberrypi-exp-gpio")
    assert find(machine, wanted, str(tmp_path)) == (str(tmp_path / "gpiochip1"), 0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "say which line"),
        ({"line": "GPIO17", "consumer": "daemon"}, "say which line"),
        ({"consumer": "daemon", "backend": "simulated"}, "in use by nobody"),
        ({"consumer": "x" * 32}, "consumer"),
    ],
)
def test_a_line_is_said_in_one_way(keys: dict[str, Any], words: str) -> None:
    """By itself, or by who has it; the kernel keeps 31 bytes of a consumer."""
    with pytest.raises(ValidationError, match=words):
        GpioInput(**keys)
    assert GpioInput(consumer="daemon").sought == TakenOver("daemon")
    assert GpioInput(line=0, chip="gpiochip0").sought == 0


def test_no_chips_and_no_permission(machine: Machine, tmp_path: Path) -> None:
    """A machine without GPIO says so; a chip that is forbidden does not hide the others, and is named."""
    empty = tmp_path / "dev"
    empty.mkdir()
    with pytest.raises(DeviceError, match="no GPIO chip here"):
        find(machine, Wanted("GPIO17"), str(empty))
    machine.refused["gpiochip1"] = errno.EACCES
    assert find(machine, Wanted("GPIO17"), str(tmp_path))[1] == 17
    with pytest.raises(DeviceError, match=r"cannot open .*gpiochip1: permission denied"):
        find(machine, Wanted("BT_ON"), str(tmp_path))


# ---- the real kernel

CONFIGFS = Path("/sys/kernel/config/gpio-sim")


class Sim:
    """A chip of gpio-sim: 8 lines, the first three with names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bank = folder / "bank0"
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text("8")
        (bank / "label").write_text("gw-sim")
        for offset in range(3):
            (bank / f"line{offset}").mkdir()
            (bank / f"line{offset}" / "name").write_text(f"GW{offset}")
        (folder / "live").write_text("1")
        device = (folder / "dev_name").read_text().strip()
        chip = (bank / "chip_name").read_text().strip()
        self.lines = Path("/sys/devices/platform") / device / chip

    def pull(self, offset: int, level: bool) -> None:
        (self.lines / f"sim_gpio{offset}" / "pull").write_text("pull-up" if level else "pull-down")

    def value(self, offset: int) -> bool:
        return (self.lines / f"sim_gpio{offset}" / "value").read_text().strip() == "1"

    def remove(self) -> None:
        (self.folder / "live").write_text("0")
        for offset in range(3):
            (self.folder / "bank0" / f"line{offset}").rmdir()
        (self.folder / "bank0").rmdir()
        self.folder.rmdir()


@pytest.fixture
def sim() -> Iterator[Sim]:
    if os.geteuid() != 0:
        pytest.skip("gpio-sim needs root")
    if not CONFIGFS.exists():
        if (modprobe := shutil.which("modprobe")) is not None:
            subprocess.run([modprobe, "gpio-sim"], check=False, capture_output=True)
        if not CONFIGFS.exists():
            pytest.skip(f"this kernel has no gpio-sim here: no {CONFIGFS} (module gpio-sim, configfs mounted)")
    made = Sim(CONFIGFS / f"gateway-{os.getpid()}")
    try:
        yield made
    finally:
        with suppress(OSError):
            made.remove()


@pytest.mark.system
async def test_the_kernel_tells_an_input_its_edges(sim: Sim) -> None:
    """By name: the state at the start, and each change."""
    notes = Notebook()
    async with running(notes.device("door", GpioInput(line="GW0", chip="gw-sim"))):
        await notes.until(lambda: len(notes.readings) == 1)
        for level in (True, False, True):
            sim.pull(0, level)
        await notes.until(lambda: len(notes.readings) == 4)
    assert [values["state"] for values in notes.of("door")] == [False, True, False, True]


@pytest.mark.system
@pytest.mark.parametrize("glitch", ["0s", "0.001ms"])
async def test_the_kernel_counts_with_us(sim: Sim, glitch: str) -> None:
    """By offset: three thousand pulses, more than the kernel keeps, are three thousand."""
    notes = Notebook()
    adapter = GpioCounter(line=1, chip="gw-sim", interval="50ms", glitch=glitch)
    async with running(notes.device("meter", adapter)):
        await notes.until(lambda: len(notes.readings) == 1)
        pulses = 3000 if glitch == "0s" else 400
        for _ in range(pulses):
            sim.pull(1, True)
            sim.pull(1, False)
        await notes.until(lambda: notes.of("meter")[-1]["total"] == pulses)


@pytest.mark.system
async def test_the_kernel_drives_an_output_and_refuses_a_second(sim: Sim) -> None:
    """A command reaches the line; whoever wants it as well is told who has it; at the end it is safe."""
    notes, answers = Notebook(), []
    device = notes.device("relay", GpioOutput(line="GW2", chip="gw-sim", interval="10ms"))
    async with running(device):
        await notes.until(lambda: len(notes.readings) == 1)
        device.order(Order("state", True, None, answers.append), 10)
        await notes.until(lambda: len(answers) == 1 and len(notes.readings) > 3)
        assert answers[0].read_back is True
        assert sim.value(2)
        with pytest.raises(DeviceError, match='"GW2" is in use by "sensor-gateway relay"'):
            open_kernel(Wanted("GW2", "gw-sim"))
    assert not sim.value(2)
