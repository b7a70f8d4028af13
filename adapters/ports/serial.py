"""A serial port: opened with pyserial in a thread, read and written through its descriptor in the loop."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import threading
from collections import Counter
from contextlib import suppress

import serial
from serial.rs485 import RS485Settings

from adapters.ports.port import CHUNK, Bytesize, Line, Opened, Parity, Port
from adapters.ports.refused import cannot_open
from adapters.ports.usb import Usb
from gateway import DeviceError

__all__ = ["CHUNK", "Bytesize", "Line", "Parity", "SerialPort"]


PATIENCE = 2.0
"""Seconds that an opening waits for this process to be done with an earlier one of the same port."""


class _Underway:
    """The places of ports that threads of this process are opening or closing: their locks are nobody else's."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._places: Counter[str] = Counter()

    def enter(self, place: str, patience: float) -> None:
        """Be under way there, as soon as nobody else is, or after `patience` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: place not in self._places, patience)
            self._places[place] += 1

    def leave(self, place: str) -> None:
        """Be there, or be gone."""
        with self._changed:
            self._places[place] -= 1
            if not self._places[place]:
                del self._places[place]
            self._changed.notify_all()


_underway = _Underway()


class _Port(serial.Serial):
    """pyserial's port, which keeps what the device said between the plugging in and the opening."""

    place = ""
    _is_underway = False

    def depart(self, patience: float) -> None:
        """Begin to open or to close, when nobody else does so at the same place, or after `patience` seconds."""
        _underway.enter(self.place, patience)
        self._is_underway = True

    def arrive(self) -> None:
        """Be open, in the hands of whoever wanted it, or closed."""
        if self._is_underway:
            self._is_underway = False
            _underway.leave(self.place)

    def close(self) -> None:
        """Close it, unless that is done."""
        try:
            super().close()
        finally:
            self.arrive()

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
    before the opening is read. The port is locked, so that no second reader gets half of what comes; an opening waits
    for an earlier one in this process that was given up, and for a closing that takes its time.
    """

    _port: _Port | None

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
        except (OSError, ValueError, termios.error) as error:
            raise DeviceError(f"{self.path} cannot do {baudrate} {bytesize}{parity}{stopbits:g}: {error}") from error

    async def _begin(self) -> None:
        assert self._port is not None  # noqa: S101 - for the type checker
        self._port.arrive()

    def _shut(self, port: Opened) -> None:
        """Close it; in a thread if the kernel would first wait, up to 30 s, for what was written to be sent."""
        if self._unsent(port.fileno()):
            if isinstance(port, _Port):
                port.depart(0)
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
            inter_byte_timeout=0,  # VMIN 1: an empty port answers EAGAIN, and only one that is gone with 0 bytes
            exclusive=True,
        )
        if line.dtr is not None:
            port.dtr = line.dtr
        if line.rts is not None:
            port.rts = line.rts
        port.port, port.place = path, os.path.realpath(path)
        port.depart(PATIENCE)
        try:
            port.open()
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
