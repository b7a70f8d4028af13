"""Serial ports by USB identity and by USB socket, in trees like the kernel's own."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ports.port import Line
from adapters.ports.refused import PortMissing
from adapters.ports.serial import SerialPort, tune
from adapters.ports.usb import IDENTITY, SOCKET, Usb, UsbSerial, choose, listing
from gateway import DeviceError
from tests.adapters.cable import Cable
from tests.adapters.notebook import WAIT


class Tree:
    """A machine with USB sockets: /sys and /dev of its own."""

    def __init__(self, root: Path) -> None:
        self.sys, self.dev = root / "sys", root / "dev"
        (self.sys / "class/tty").mkdir(parents=True)
        self.dev.mkdir()

    def plug(self, name: str, socket: str, interface: str = "1.0", **words: str) -> None:
        """Plug a device in, which gets the tty called `name`; `words` are files such as idVendor."""
        usb = self.sys / "devices/platform/soc/usb1" / "1-1" / socket
        place = usb / f"{socket}:{interface}"
        device = place if name.startswith("ttyACM") else place / name
        tty = device / "tty" / name
        tty.mkdir(parents=True)
        for file, word in words.items():
            (usb / file).write_text(f"{word}\n")
        (tty / "device").symlink_to(os.path.relpath(device, tty))
        (self.sys / "class/tty" / name).symlink_to(os.path.relpath(tty, self.sys / "class/tty"))

    def usb(self, identity: str | None = None, socket: str | None = None) -> Usb:
        return Usb(identity, socket, self.sys, self.dev)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.plug("ttyUSB0", "1-1.2", idVendor="1a86", idProduct="7523", product="USB Serial")
    tree.plug(
        "ttyUSB1",
        "1-1.3",
        idVendor="0403",
        idProduct="6001",
        serial="A50285BI",
        manufacturer="FTDI",
        product="FT232R USB UART",
    )
    tree.plug("ttyACM0", "1-1.4.1", idVendor="2341", idProduct="0043", serial="75:83:03")
    tree.plug("ttyUSB2", "1-1.5", "1.0", idVendor="10C4", idProduct="EA70")
    tree.plug("ttyUSB3", "1-1.5", "1.1", idVendor="10C4", idProduct="EA70")
    on_board = tree.sys / "devices/platform/fe201000.serial"
    (on_board / "tty/ttyAMA0").mkdir(parents=True)
    (on_board / "tty/ttyAMA0/device").symlink_to("../..")
    (tree.sys / "class/tty/ttyAMA0").symlink_to("../../devices/platform/fe201000.serial/tty/ttyAMA0")
    (tree.sys / "class/tty/tty1").mkdir()  # a console: there is no device
    return tree


@pytest.mark.parametrize(
    ("identity", "socket", "name"),
    [
        ("1a86:7523", None, "ttyUSB0"),
        ("1A86:7523", None, "ttyUSB0"),
        ("0403:6001", None, "ttyUSB1"),
        ("0403:6001:A50285BI", None, "ttyUSB1"),
        ("2341:0043:75:83:03", None, "ttyACM0"),
        (None, "1-1.2", "ttyUSB0"),
        (None, "1-1.4.1", "ttyACM0"),
        (None, "1-1.4.1:1.0", "ttyACM0"),
        (None, "1-1.5:1.1", "ttyUSB3"),
    ],
)
def test_a_port_is_found_by_what_or_where_it_is(
    tree: Tree, identity: str | None, socket: str | None, name: str
) -> None:
    """By vendor and product, with the serial number if there is one, or by the socket, with the interface if needed."""
    assert tree.usb(identity, socket).find() == str(tree.dev / name)


@pytest.mark.parametrize(
    ("identity", "socket"),
    [("0403:6001:other", None), ("1a86:7523:1", None), ("dead:beef", None), (None, "1-1"), (None, "1-1.2:1.1")],
)
def test_what_is_not_there_is_told_with_what_is(tree: Tree, identity: str | None, socket: str | None) -> None:
    """Who has mistyped a number, or plugged it in elsewhere, sees what there is instead; it counts as not there."""
    with pytest.raises(PortMissing) as told:
        tree.usb(identity, socket).find()
    words = str(told.value)
    assert words.startswith(f"cannot open usb {identity}" if identity else f"cannot open usb_port {socket}")
    assert f"{tree.dev / 'ttyUSB1'} is 0403:6001:A50285BI in 1-1.3:1.0 (FTDI FT232R USB UART)" in words
    assert f"{tree.dev / 'ttyUSB0'} is 1a86:7523 in 1-1.2:1.0 (USB Serial)" in words
    assert "ttyAMA0" not in words


def test_several_of_a_kind_are_named_with_the_way_out(tree: Tree) -> None:
    """Two of the same are never guessed between."""
    with pytest.raises(DeviceError, match="several ports are that") as told:
        tree.usb("10c4:ea70").find()
    assert not isinstance(told.value, FileNotFoundError)
    assert "ttyUSB2" in str(told.value)
    assert "ttyUSB3" in str(told.value)
    assert str(told.value).endswith('Fix: usb_port = "1-1.5:1.0" names one by its socket')


def test_a_machine_without_usb_says_so(tmp_path: Path) -> None:
    """Also one whose /sys cannot be read."""
    with pytest.raises(PortMissing, match="no serial port on USB at all"):
        Usb("1a86:7523", None, tmp_path / "none", tmp_path).find()


def test_what_a_device_says_of_itself_cannot_break_a_line(tmp_path: Path) -> None:
    """A device chooses its own name; in the log it stays one line."""
    tree = Tree(tmp_path)
    tree.plug("ttyUSB0", "1-1.2", idVendor="1a86", idProduct="7523", product="a\nroot: all is well\x1b[2J")
    (port,) = listing(tree.sys, tree.dev)
    assert str(port).isprintable()


PORTS = st.builds(
    UsbSerial,
    path=st.sampled_from(["/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyACM0"]),
    vendor=st.sampled_from(["1a86", "0403"]),
    product=st.sampled_from(["7523", "6001"]),
    serial=st.sampled_from(["", "A", "B:C"]),
    socket=st.sampled_from(["1-1", "1-1.2", "3-2"]),
    interface=st.sampled_from(["1.0", "1.1"]),
    name=st.just(""),
)


@given(st.lists(PORTS, max_size=4, unique=True), st.data())
def test_what_is_chosen_is_what_was_asked_for_and_the_only_one(ports: list[UsbSerial], data: st.DataObject) -> None:
    """For any plugging: the one that fits, and an error as soon as it is none or several."""
    serial = data.draw(st.sampled_from(["", ":A", ":B:C"]))
    identity = data.draw(st.sampled_from(["1a86:7523", "0403:6001"])) + serial
    wanted = identity.split(":", 2)
    fits = [port for port in ports if [port.vendor, port.product, port.serial][: len(wanted)] == wanted]
    if len(fits) == 1:
        assert choose(ports, Usb(identity)) == fits[0]
    else:
        with pytest.raises(DeviceError):
            choose(ports, Usb(identity))


def test_the_keys_are_checked_when_the_config_is_read() -> None:
    """The patterns of the keys take what the kernel writes, and nothing that could never be found."""
    for good in ("1a86:7523", "0403:6001:A50285BI", "2341:0043:75:83:03"):
        assert re.search(IDENTITY, good)
    for bad in ("1a86", "1a86:752", "1a86:7523:", "xxxx:0000", "/dev/ttyUSB0"):
        assert not re.search(IDENTITY, bad)
    for good in ("1-1", "1-1.2", "10-1.2.3.4", "1-1.2:1.0"):
        assert re.search(SOCKET, good)
    for bad in ("1", "1.2", "usb1", "1-1.2:", "1-1.2:1"):
        assert not re.search(SOCKET, bad)


async def test_a_port_that_came_back_under_another_name_is_found_again(tmp_path: Path) -> None:
    """The identity is looked up at each opening: ttyUSB0 may be ttyUSB1 after a replug."""
    tree = Tree(tmp_path)
    tree.plug("ttyUSB0", "1-1.2", idVendor="1a86", idProduct="7523")
    port = SerialPort(tree.usb("1a86:7523"))
    assert port.path == "usb 1a86:7523"
    with Cable(tree.dev / "ttyUSB0") as cable:
        async with port, asyncio.timeout(WAIT):
            assert port.place() == cable.terminal
            cable.write(b"one")
            assert await port.read() == b"one"
            cable.unplug()
            with pytest.raises(DeviceError, match=r"^unplugged \(usb 1a86:7523\)$"):
                await port.read()
    (tree.sys / "class/tty/ttyUSB0").unlink()
    with pytest.raises(PortMissing):
        async with port:
            pass
    tree.plug("ttyUSB1", "1-1.3", idVendor="1a86", idProduct="7523")
    with Cable(tree.dev / "ttyUSB1") as cable:
        async with port, asyncio.timeout(WAIT):
            cable.write(b"two")
            assert await port.read() == b"two"


class Driver:
    """What pyserial's port has for a driver, as far as `tune` asks for it."""

    port = "/dev/ttyUSB0"

    def __init__(self, *, able: bool) -> None:
        object.__setattr__(self, "able", able)
        object.__setattr__(self, "said", {})

    def set_low_latency_mode(self, wanted: bool) -> None:
        self.__setattr__("low_latency", wanted)

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.able:  # type: ignore[attr-defined]
            raise ValueError("Failed to set it")
        self.said[name] = value  # type: ignore[attr-defined]


def test_a_driver_is_asked_only_for_what_the_config_wants() -> None:
    """Low latency and RS-485 are left as they are unless they are asked for, and set when they are."""
    driver: Any = Driver(able=True)
    tune(driver, Line())
    assert driver.said == {}
    tune(driver, Line(low_latency=True, rs485=True))
    assert driver.said["low_latency"] is True
    assert driver.said["rs485_mode"].rts_level_for_tx is True


async def test_low_latency_does_no_harm_and_rs485_is_no_wish(tmp_path: Path) -> None:
    """A terminal has neither: without low latency all works, but without RS-485 the bus would be silent."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path, Line(low_latency=True)) as port:
            cable.write(b"x")
            assert await port.read() == b"x"
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(DeviceError, match="its driver has no RS-485 mode"):
            async with SerialPort(cable.path, Line(rs485=True)):
                pass
        assert len(os.listdir("/proc/self/fd")) == before
