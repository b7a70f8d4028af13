"""A serial port: opened with pyserial in a thread, read and written through its descriptor in the loop."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import threading
from contextlib import suppress

import serial
from serial.rs485 import RS485Settings

from adapters.ports.port import CHUNK, Bytesize, Line, Opened, Parity, Port
from adapters.ports.refused import cannot_open
from adapters.ports.usb import Usb
from gateway import DeviceError

__all__ = ["CHUNK", "Bytesize", "Line", "Parity", "SerialPort"]


class _Port(serial.Serial):
    """pyserial's port, which keeps what the device said between the plugging in and the opening."""

    def _reset_input_buffer(self) -> None:
        """Throw nothing away; pyserial calls this when it opens."""

    def _reconfigure_port(self, force_update: bool = False) -> None:
        """Set the line; pyserial calls this. A pseudo-terminal has 8N1 alone, which is no reason not to use it."""
        try:
            super()._reconfigure_port(force_update)  # type: ignore[misc]  # the stubs have public names alone
        except termios.error as error:
            if error.args[0] != errno.EINVAL or not os.ttyname(self.fd or -1).startswith("/dev/pts/"):
                raise


class SerialPort(Port):
    """A port of this machine, by its path or by its USB identity; see `Port` for how it is read and written.

    A path that is a symbolic link, and a USB identity, are resolved at each opening. What the kernel has received
    before the opening is read. The port is locked, so that no second reader gets half of what comes.
    """

    _port: serial.Serial | None

    def __init__(self, path: str | Usb, line: Line | None = None) -> None:
        super().__init__(str(path), line or Line())
        self._where = path

    def place(self) -> str:
        """Return the path of the device itself. Raises DeviceError for a USB identity that is not there."""
        return os.path.realpath(self._found())

    def _found(self) -> str:
        return self._where.find() if isinstance(self._where, Usb) else self._where

    def retune(self, baudrate: int, bytesize: Bytesize = 8, parity: Parity = "N", stopbits: float = 1) -> None:
        """Go on at another speed, without the closing and opening that resets many boards.

        Raises DeviceError when the port cannot do it.
        """
        self._descriptor()
        assert self._port is not None  # noqa: S101 - for the type checker
        wanted = {"baudrate": baudrate, "bytesize": bytesize, "parity": parity, "stopbits": stopbits}
        try:
            self._port.apply_settings(wanted)
            _tell_empty_from_gone(self._fd)
        except (OSError, ValueError, termios.error) as error:
            raise DeviceError(f"{self.path} cannot do {baudrate} {bytesize}{parity}{stopbits:g}: {error}") from error

    def _shut(self, port: Opened) -> None:
        """Close it; in a thread if the kernel would first wait, up to 30 s, for what was written to be sent."""
        if self._unsent(port.fileno()):
            threading.Thread(target=port.close, name=f"close-{self.path}", daemon=True).start()
        else:
            port.close()

    @staticmethod
    def _unsent(fd: int) -> int:
        """Return how many bytes wait in the kernel to be sent."""
        try:
            (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 0  # unplugged: there is nothing to wait for
        return int(count)

    def _open(self) -> serial.Serial:
        path, line = self._found(), self.line
        port = _Port(
            baudrate=line.baudrate,
            bytesize=line.bytesize,
            parity=line.parity,
            stopbits=line.stopbits,
            timeout=0,
            exclusive=True,
        )
        if line.dtr is not None:
            port.dtr = line.dtr
        if line.rts is not None:
            port.rts = line.rts
        port.port = path
        try:
            port.open()
            _tell_empty_from_gone(port.fileno())
        except (OSError, ValueError, termios.error) as error:  # pyserial's own exception is an OSError
            port.close()
            raise cannot_open(path, error) from error
        try:
            tune(port, line)
        except DeviceError:
            port.close()
            raise
        return port


def tune(port: serial.Serial, line: Line) -> None:
    """Set what only some drivers have. Raises DeviceError where a driver has no RS-485 mode that is asked for."""
    if line.low_latency:
        with suppress(ValueError, NotImplementedError):
            port.set_low_latency_mode(True)
    if line.rs485:
        try:
            port.rs485_mode = RS485Settings()
        except (ValueError, NotImplementedError) as error:
            raise DeviceError(
                f"cannot open {port.port}: its driver has no RS-485 mode. Fix: leave rs485 out if the transceiver "
                "turns by itself, as in most USB adapters"
            ) from error


def _tell_empty_from_gone(fd: int) -> None:
    """Have an empty port answer EAGAIN: as pyserial leaves it, empty and unplugged both answer with 0 bytes."""
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    attributes[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
