"""An I²C bus of the kernel, /dev/i2c-1 on a Raspberry Pi. The only room that knows smbus2. Calls may block."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from smbus2 import SMBus, i2c_msg

from gateway import DeviceError

Transfer: TypeAlias = Callable[[bytes, int], bytes]
"""Write these bytes to the device, then read so many, in one transaction; either may be nothing."""
_NOBODY = (errno.ENXIO, errno.EREMOTEIO)


@contextmanager
def opened(number: int, address: int) -> Iterator[Transfer]:
    """Open a bus for one device. Raises DeviceError, with what to do, where that cannot be."""
    name = f"/dev/i2c-{number}"
    try:
        bus = SMBus(number)
    except FileNotFoundError:
        raise DeviceError(f"there is no {name}. Fix: turn I²C on with raspi-config, under Interface Options") from None
    except PermissionError:
        raise DeviceError(
            f"cannot open {name}: permission denied. Fix: put the gateway's user into group i2c"
        ) from None

    def transfer(write: bytes, read: int) -> bytes:
        messages = [i2c_msg.write(address, write)] if write else []
        answer = i2c_msg.read(address, read) if read else None
        try:
            bus.i2c_rdwr(*messages, *([answer] if answer is not None else []))
        except OSError as error:
            if error.errno in _NOBODY:
                words = f"check wiring, power and address (i2cdetect -y {number})"
                raise DeviceError(f"nobody answers at {address:#04x} on {name}: {words}") from error
            raise DeviceError(f"{name}, {address:#04x}: {error.strerror or error}") from error
        return bytes(answer) if answer is not None else b""

    with bus:
        yield transfer
