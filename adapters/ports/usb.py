"""Serial ports by what is plugged in, or by where: the kernel's own list in /sys, without any further library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.ports.refused import PortMissing
from gateway import DeviceError

IDENTITY = r"^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}(:.+)?$"
"""Vendor and product in hexadecimal, and the serial number if there is one: "1a86:7523", "0403:6001:A50285BI"."""
SOCKET = r"^[0-9]+-[0-9]+(\.[0-9]+)*(:[0-9]+\.[0-9]+)?$"
"""Bus, and the sockets from hub to hub: "1-1.2"; with the interface, for a device of several ports: "1-1.2:1.0"."""


@dataclass(frozen=True, slots=True, order=True)
class UsbSerial:
    """One serial port that USB gives: where it is, and what it says about itself."""

    path: str
    vendor: str  # four hexadecimal digits, in small letters
    product: str
    serial: str  # empty where the device has none, as with most CH340
    socket: str
    interface: str  # "1.0"
    name: str

    def __str__(self) -> str:
        number = f":{self.serial}" if self.serial else ""
        name = f" ({self.name})" if self.name else ""
        return f"{self.path} is {self.vendor}:{self.product}{number} in {self.socket}:{self.interface}{name}"

    def is_a(self, identity: str) -> bool:
        """Say whether this is what an identity as in IDENTITY means."""
        vendor, product, *serial = identity.split(":", 2)
        return (vendor.lower(), product.lower()) == (self.vendor, self.product) and serial in ([], [self.serial])

    def is_in(self, socket: str) -> bool:
        """Say whether this is in the USB socket that SOCKET describes."""
        where, _, interface = socket.partition(":")
        return where == self.socket and interface in ("", self.interface)


@dataclass(frozen=True, slots=True)
class Usb:
    """A serial port by its USB identity, or by the USB socket that it is plugged into."""

    identity: str | None = None
    socket: str | None = None
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")

    def __str__(self) -> str:
        return f"usb {self.identity}" if self.identity is not None else f"usb_port {self.socket}"

    def find(self) -> str:
        """Return the path of the port. Raises PortMissing, or DeviceError when several are meant; reads /sys."""
        return choose(listing(self.sys, self.dev), self).path


def choose(ports: Sequence[UsbSerial], wanted: Usb) -> UsbSerial:
    """Return the one port that is wanted. Raises PortMissing or DeviceError with what is there instead."""
    found = [
        port
        for port in ports
        if (wanted.identity is None or port.is_a(wanted.identity))
        and (wanted.socket is None or port.is_in(wanted.socket))
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        there = "; ".join(map(str, ports)) or "no serial port on USB at all"
        raise PortMissing(f"cannot open {wanted}: not there (there is: {there})")
    several = "; ".join(map(str, found))
    fix = f'Fix: usb_port = "{found[0].socket}:{found[0].interface}" names one by its socket'
    raise DeviceError(f"cannot open {wanted}: several ports are that ({several}). {fix}")


def listing(sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> list[UsbSerial]:
    """Return the serial ports on USB, by path. What is unplugged while this looks is left out."""
    found = []
    for entry in (sys / "class/tty").glob("tty*"):
        try:
            device = (entry / "device").resolve(strict=True)
            port = _described(device, dev / entry.name)
        except OSError:
            continue
        if port is not None:
            found.append(port)
    return sorted(found)


def _described(device: Path, path: Path) -> UsbSerial | None:
    """Look from a tty's place in the tree upwards: first comes the interface, then the device of which it is one."""
    interface = ""
    for folder in (device, *device.parents):
        if match := re.fullmatch(r"[0-9]+-[0-9.]+:([0-9]+\.[0-9]+)", folder.name):
            interface = match[1]
        elif (folder / "idVendor").exists():
            vendor, product = _word(folder, "idVendor").lower(), _word(folder, "idProduct").lower()
            name = " ".join(filter(None, (_word(folder, "manufacturer"), _word(folder, "product"))))
            return UsbSerial(str(path), vendor, product, _word(folder, "serial"), folder.name, interface, name)
    return None


def _word(folder: Path, name: str) -> str:
    """Return what a file says; the device decides on the words of some of them, and may leave them out."""
    try:
        text = (folder / name).read_text(errors="replace")
    except OSError:
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()
