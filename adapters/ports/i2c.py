"""An I²C bus of the kernel, /dev/i2c-1 on a Raspberry Pi. The only room that knows smbus2. Calls may block."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from adapters.ports.refused import permissions
from adapters.ports.simulated_i2c import SimulatedWire
from gateway import DeviceError, Silent

try:
    from smbus2 import SMBus, i2c_msg
except ImportError as error:
    MISSING: str | None = f"needs the package smbus2 ({error}); type: pip install 'sensor-gateway[i2c]'"
else:
    MISSING = None

_NOBODY = (errno.ENXIO, errno.EREMOTEIO)
_GONE = (errno.ENODEV, errno.ESHUTDOWN, errno.EPIPE, errno.ECONNRESET)


class Wire(Protocol):
    """An opened bus."""

    takes_time: bool
    """Whether devices need theirs to measure; simulated ones do not."""

    def transfer(self, address: int, write: bytes, read: int) -> bytes:
        """Write these bytes to a device, then read so many, in one transaction; either may be nothing. Raises OSError.

        ENXIO or EREMOTEIO: nobody is at that address.
        """
        ...

    def close(self) -> None:
        """Close it."""
        ...


class NobodyAnswers(Silent):
    """Nobody acknowledges the address."""


class KernelWire:
    """A bus that the kernel has a driver for."""

    takes_time = True

    def __init__(self, path: str) -> None:
        self._bus = SMBus()
        try:
            self._bus.open(path)
        except BaseException:
            self._bus.close()  # open leaves it open where the file is no bus
            raise

    def transfer(self, address: int, write: bytes, read: int) -> bytes:
        """See `Wire.transfer`."""
        messages = [i2c_msg.write(address, write)] if write else []
        answer = i2c_msg.read(address, read) if read else None
        self._bus.i2c_rdwr(*messages, *([answer] if answer is not None else []))
        return bytes(answer) if answer is not None else b""

    def close(self) -> None:
        """Close it."""
        self._bus.close()


def open_wire(path: str) -> Wire:
    """Open the bus at `path`, or the simulated one behind a socket. Raises DeviceError, with what to do."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - the path is text everywhere else
            return SimulatedWire(path)
        return KernelWire(path)
    except OSError as error:
        raise DeviceError(refused(path, error)) from error


def refused(path: str, error: OSError, folder: str = "/dev", adapters: str = "/sys/class/i2c-adapter") -> str:
    """Say why a bus cannot be opened and what to do; `folder` has the buses, `adapters` what the kernel knows."""
    if error.errno == errno.ENOENT:
        if (Path(adapters) / Path(path).name).exists():
            return f"there is no {path}, though the kernel has that bus. Fix: sudo modprobe i2c-dev"
        found = sorted(str(one) for one in Path(folder).glob("i2c-[0-9]*"))
        there = f"there is: {', '.join(found)}" if found else "nor any other I²C bus"
        return f"there is no {path}; {there}. Fix on a Raspberry Pi: sudo raspi-config nonint do_i2c 0"
    if error.errno == errno.EACCES:
        return f"cannot open {path}: permission denied ({permissions(path)}"
    if error.errno == errno.EPERM:
        return (
            f"cannot open {path}: not permitted, though the file's mode may allow it. "
            "Fix: DeviceAllow=char-89 rw in the service unit"
        )
    if error.errno == errno.ENOTTY:
        return f"cannot open {path}: that is no I²C bus"
    return f"cannot open {path}: {error.strerror or error}"


def explained(path: str, address: int, others: tuple[int, ...], error: OSError) -> DeviceError:
    """Return what a failed transfer means; `others` are the addresses that this kind of device can have."""
    where = f"{address:#04x} on {path}"
    if error.errno in _NOBODY:
        places = " or ".join(f"{one:#04x}" for one in others)
        kind = f"; this kind of device is at {places}" if len(others) > 1 else ""
        number = path.rpartition("-")[2]
        see = f" (sudo i2cdetect -y {number} shows who answers)" if number.isdecimal() else ""
        return NobodyAnswers(f"nobody answers at {where}: check wiring, power and address{see}{kind}")
    if error.errno == errno.ETIMEDOUT:
        return Silent(f"{where}: no answer: a device holds the clock or the data line low; take its power away once")
    if error.errno in _GONE:
        return DeviceError(f"{path} is gone: its adapter was unplugged")
    if error.errno in (errno.EIO, errno.EAGAIN, errno.EBADMSG):
        cause = "disturbed: long wires, weak pull-ups or a loose contact?"
        return DeviceError(f"{where}: {cause} ({error.strerror or error})")
    if error.errno == errno.EOPNOTSUPP:
        return DeviceError(f"{path} speaks SMBus only, which is not enough for this device")
    return DeviceError(f"{where}: {error.strerror or error}")
