"""The serial ports of this machine, and what there is to know about each without opening it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from adapters.ports.holder import holder
from adapters.ports.refused import permissions
from adapters.ports.usb import listing as usb_listing
from gateway.tools import FoundPort

# What is usually behind a USB identity, by the names of usb.ids (http://www.linux-usb.org/usb-ids.html); a bridge does
# not know what is wired to it.
KNOWN = {
    "0403:6001": "FTDI FT232R bridge: RS-485 sticks, smart meter cables, Victron VE.Direct cables",
    "0403:6010": "FTDI FT2232 bridge, two ports",
    "0403:6011": "FTDI FT4232 bridge, four ports",
    "0403:6014": "FTDI FT232H bridge",
    "0403:6015": "FTDI FT-X bridge: smart meter and Victron VE.Direct cables",
    "067b:2303": "Prolific PL2303 bridge: GPS receivers, RS-232 cables",
    "067b:23a3": "Prolific PL2303GC bridge",
    "10c4:ea60": "Silicon Labs CP210x bridge: ESP32 boards, IR reading heads, Zigbee sticks",
    "10c4:ea70": "Silicon Labs CP2105 bridge, two ports",
    "1a86:5523": "WCH CH341 bridge",
    "1a86:55d3": "WCH CH343 bridge",
    "1a86:55d4": "WCH CH9102 bridge: ESP32 boards, Zigbee sticks",
    "1a86:7523": "WCH CH340 bridge: Arduino clones, RS-485 sticks, SDS011 and PMS adapters",
    "1546:01a6": "u-blox 6 GPS receiver",
    "1546:01a7": "u-blox 7 GPS receiver",
    "1546:01a8": "u-blox 8 GPS receiver",
    "16c0:0483": "Teensy board",
    "1cf1:0030": "dresden elektronik ConBee II (Zigbee)",
    "2341:0042": "Arduino Mega 2560",
    "2341:0043": "Arduino Uno R3",
    "2341:8036": "Arduino Leonardo",
    "2a03:0043": "Arduino Uno R3",
    "2e8a:0005": "Raspberry Pi Pico with MicroPython",
    "2e8a:000a": "Raspberry Pi Pico with the C SDK or Arduino",
    "303a:1001": "ESP32-S3, -C3 or -C6 over its own USB",
}
BUILT_IN = {
    "ttyAMA": "the UART of the board: on a Pi 3 or 4 ttyAMA0 may be Bluetooth's, and /dev/serial0 the one at the pins",
    "ttyS": "a UART of the board",
}


class Places(NamedTuple):
    """Where the system says what it has."""

    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    etc: Path = Path("/etc")


HERE = Places()


def ports() -> list[FoundPort]:
    """Return the serial ports of this machine. See `gateway.tools.FindPorts`."""
    return list(found())


def found(places: Places = HERE, may: Callable[[Path], bool] | None = None) -> Iterator[FoundPort]:
    """Yield the serial ports, ordered by name. `may` says whether this process may open a path."""
    may = may or (lambda path: os.access(path, os.R_OK | os.W_OK))
    names = {os.path.realpath(link): str(link) for link in sorted(places.dev.glob("serial/by-id/*"))}
    plugged = {port.path: port for port in usb_listing(places.sys, places.dev)}
    consoles = _consoles(places)
    for entry in sorted(places.sys.glob("class/tty/*"), key=lambda entry: _in_order(entry.name)):
        path = places.dev / entry.name
        if not _is_port(entry) or not path.exists():
            continue
        usb = plugged.get(str(path))
        identity = ":".join(filter(None, (usb.vendor, usb.product, usb.serial))) if usb else None
        yield FoundPort(
            path=str(path),
            by_id=names.get(os.path.realpath(path)),
            usb=identity,
            usb_port=usb.socket if usb else None,
            product=(usb.name or None) if usb else None,
            guess=_guess(entry.name, identity),
            holder=holder(path, places.proc),
            refused=None if may(path) else f"permission denied ({permissions(str(path))}",
            console=consoles.get(entry.name),
        )


def _in_order(name: str) -> tuple[str, int]:
    """Sort ttyUSB10 behind ttyUSB9."""
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or 0)


def _is_port(entry: Path) -> bool:
    """Return whether there is hardware behind a tty; the kernel makes ttyS0 to ttyS31 whether or not they exist."""
    return (entry / "device").exists() and _text(entry / "type") != "0"


def _guess(name: str, usb: str | None) -> str | None:
    if usb is not None:
        return KNOWN.get(usb[:9].lower())
    return next((words for prefix, words in BUILT_IN.items() if name.startswith(prefix)), None)


def _consoles(places: Places) -> dict[str, str]:
    """Return the ports on which the system has a login or writes its messages, with how to turn that off."""
    aliases = {link.name: link.resolve().name for link in places.dev.glob("serial[0-9]")}
    written = {aliases.get(name, name) for name in re.findall(r"\bconsole=(\w+)", _text(places.proc / "cmdline") or "")}
    logins = {
        unit.name.partition("@")[2].removesuffix(".service")
        for unit in places.etc.glob("systemd/system/getty.target.wants/serial-getty@*.service")
    }
    logins = {aliases.get(name, name) for name in logins} | written  # systemd starts a login on the kernel's console
    return {name: _console(name, name in written) for name in logins}


def _console(name: str, written: bool) -> str:
    fix = f"sudo systemctl disable --now serial-getty@{name}.service"
    if written:
        fix += f", take console={name} (or serial0) out of /boot/firmware/cmdline.txt (on a Pi), and reboot"
    return f"a login console is on it. Fix: {fix}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None
