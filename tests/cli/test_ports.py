"""`sensor-gateway ports`: what is said about each port of a made-up machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.ports.listing import KNOWN, Places, found
from gateway import registry
from gateway.cli.app import app
from gateway.cli.ports import described
from gateway.tools import FoundPort
from tests.adapters.cable import Cable


class Machine:
    """Folders such as /sys, /dev, /proc and /etc, with what a test plugs in."""

    def __init__(self, root: Path) -> None:
        self.places = Places(root / "sys", root / "dev", root / "proc", root / "etc")
        for place in self.places:
            place.mkdir()
        (self.places.sys / "class/tty").mkdir(parents=True)

    def tty(self, name: str, device: str, **files: str) -> Path:
        """Add a tty behind the device in the folder `device`; return its node."""
        behind = self.places.sys / "devices" / device
        behind.mkdir(parents=True, exist_ok=True)
        entry = self.places.sys / "class/tty" / name
        entry.mkdir()
        (entry / "device").symlink_to(behind)
        for key, text in files.items():
            (entry / key).write_text(text + "\n")
        node = self.places.dev / name
        node.touch()
        return node

    def usb(self, name: str, at: str, **facts: str) -> Path:
        """Add a tty behind the USB device at the physical port `at`."""
        node = self.tty(name, f"usb1/{at}/{at}:1.0/{name}")
        for key, text in facts.items():
            (self.places.sys / f"devices/usb1/{at}" / key).write_text(text + "\n")
        return node

    def by_id(self, name: str, node: Path) -> None:
        folder = self.places.dev / "serial/by-id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(f"../../{node.name}")

    def ports(self, **more: Any) -> dict[str, FoundPort]:
        return {Path(port.path).name: port for port in found(self.places, **more)}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_usb_port_has_an_identity_a_lasting_name_and_a_guess(machine: Machine) -> None:
    """What /sys knows of the device behind a port is shown, and the name that stays is the one to write down."""
    node = machine.usb(
        "ttyUSB0", "1-1.2", idVendor="0403", idProduct="6001", serial="A50285BI", manufacturer="FTDI", product="FT232R"
    )
    machine.by_id("usb-FTDI_FT232R_A50285BI-if00-port0", node)
    port = machine.ports()["ttyUSB0"]
    assert (port.usb, port.usb_port, port.product) == ("0403:6001:A50285BI", "1-1.2", "FTDI FT232R")
    assert port.guess == KNOWN["0403:6001"]
    assert port.by_id == port.best == str(machine.places.dev / "serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0")
    assert f'port = "{port.by_id}"' in described(port)


def test_a_bridge_without_serial_number_or_name_is_listed_all_the_same(machine: Machine) -> None:
    """Most cheap bridges have neither: identity without a third part, and the path itself to write down."""
    machine.usb("ttyUSB3", "1-1", idVendor="1a86", idProduct="7523")
    port = machine.ports()["ttyUSB3"]
    assert (port.usb, port.product, port.by_id) == ("1a86:7523", None, None)
    assert port.best == port.path


def test_only_what_has_hardware_behind_it_is_a_port(machine: Machine) -> None:
    """The kernel's ttyS without a UART, virtual consoles and nodes that are gone are left out; ttyS10 follows ttyS9."""
    machine.tty("ttyS10", "uart10", type="4")
    machine.tty("ttyS9", "uart9", type="4")
    machine.tty("ttyS1", "uart1", type="0")
    machine.tty("ttyAMA0", "uart").unlink()
    (machine.places.sys / "class/tty/tty1").mkdir()
    assert list(machine.ports()) == ["ttyS9", "ttyS10"]


def test_a_login_console_is_found_by_its_unit_and_by_the_kernel_command_line(machine: Machine) -> None:
    """A console under either name of the port is said, with the commands that turn it off."""
    node = machine.tty("ttyAMA0", "uart", type="3")
    machine.tty("ttyS0", "mini", type="2")
    machine.tty("ttyS2", "other", type="2")
    (machine.places.dev / "serial0").symlink_to(node.name)
    (machine.places.proc / "cmdline").write_text("console=serial0,115200 console=tty1 root=/dev/mmcblk0p2\n")
    wants = machine.places.etc / "systemd/system/getty.target.wants"
    wants.mkdir(parents=True)
    (wants / "serial-getty@ttyS0.service").symlink_to("/nowhere")
    ports = machine.ports()
    assert ports["ttyS2"].console is None
    assert "systemctl disable --now serial-getty@ttyAMA0.service" in str(ports["ttyAMA0"].console)
    assert "console=ttyAMA0 (or serial0)" in str(ports["ttyAMA0"].console)
    assert "serial-getty@ttyS0.service" in str(ports["ttyS0"].console)
    assert "cmdline.txt" not in str(ports["ttyS0"].console)


def test_who_holds_a_port_is_named(machine: Machine) -> None:
    """A process that has the port open is shown with its number and its name."""
    node = machine.usb("ttyACM0", "1-2", idVendor="2341", idProduct="0043")
    process = machine.places.proc / "812"
    (process / "fd").mkdir(parents=True)
    (process / "fd/3").symlink_to(node)
    (process / "comm").write_text("octoprint\n")
    (port,) = machine.ports().values()
    assert port.holder == "pid 812 (octoprint)"
    assert "held by     pid 812 (octoprint)" in described(port)


def test_a_port_that_one_may_not_open_comes_with_what_mends_it(machine: Machine) -> None:
    """The verdict names owner, mode and the fix."""
    machine.usb("ttyUSB0", "1-1", idVendor="1a86", idProduct="7523")
    (port,) = machine.ports(may=lambda path: False).values()
    assert "permission denied" in str(port.refused)
    assert "Fix:" in str(port.refused)
    (port,) = machine.ports(may=lambda path: True).values()
    assert port.refused is None


def test_a_real_holder_is_found_through_proc(tmp_path: Path) -> None:
    """On the real /proc, a port that this very process has open is said to be its own."""
    machine = Machine(tmp_path)
    with Cable(tmp_path / "cable") as cable:
        entry = machine.tty("ttyUSB0", "usb1/1-1")
        entry.unlink()
        entry.symlink_to(cable.terminal)
        fd = os.open(cable.terminal, os.O_RDWR | os.O_NOCTTY)
        try:
            (port,) = found(machine.places._replace(proc=Path("/proc")))
        finally:
            os.close(fd)
    assert f"pid {os.getpid()} (" in str(port.holder)
    assert "which is this gateway" in str(port.holder)


def test_the_command_prints_what_the_tool_finds() -> None:
    """On this machine, whatever it has: the text names each port that the JSON names."""
    done = CliRunner().invoke(app, ["ports", "--json"])
    assert done.exit_code == 0
    listed = json.loads(done.stdout)
    assert [port["path"] for port in listed] == [port.path for port in registry.tool("ports")()]
    text = CliRunner().invoke(app, ["ports"]).stdout
    assert all(port["path"] in text for port in listed)
    assert listed or "There is no serial port." in text


def test_a_tool_that_nobody_offers_is_an_error_in_words() -> None:
    """The command line says which tool is missing, not which module."""
    with pytest.raises(registry.AdapterError, match='the tool "espresso"'):
        registry.tool("espresso")
