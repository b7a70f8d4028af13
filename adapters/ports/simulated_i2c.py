"""An I²C bus that is not there: devices in a program, behind a socket that stands where /dev/i2c-1 would.

From the opened bus on, everything is as with the kernel's: transfers that block, errors by number, a bus that hangs.
A message is one transfer: the address, how many bytes to read, the bytes to write; the answer is an error number, or 0,
and the bytes read.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_ASKED = struct.Struct("<BH")
_ANSWER = struct.Struct("<H")
_LONGEST = 8192 + _ASKED.size  # the kernel's own limit of one message


class SimulatedChip(Protocol):
    """A device on a simulated bus."""

    def transfer(self, write: bytes, read: int) -> bytes:
        """Take what is written, and return `read` bytes. Raises OSError with the number that the kernel would give.

        While it does not return, it holds the clock, and the bus hangs.
        """
        ...


class SimulatedWire:
    """The bus behind a socket, in the place of `adapters.ports.i2c.KernelWire`."""

    takes_time = False

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def transfer(self, address: int, write: bytes, read: int) -> bytes:
        """See `adapters.ports.i2c.Wire.transfer`."""
        self._socket.send(_ASKED.pack(address, read) + write)
        answer = self._socket.recv(_LONGEST)
        if len(answer) < _ANSWER.size:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        (code,) = _ANSWER.unpack_from(answer)
        if code:
            raise OSError(code, os.strerror(code))
        return answer[_ANSWER.size :]

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class SimulatedBus:
    """`with SimulatedBus(path, {0x76: chip}):` puts a bus there, and takes it away at the end.

    Chips are called in one thread, one after the other, as on a bus.
    """

    def __init__(self, path: str | Path, chips: Mapping[int, SimulatedChip]) -> None:
        self._path = Path(path)
        self._chips = chips
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        self.plug()

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug(self) -> None:
        """Put the bus there."""
        self._stopped, self._stop = socket.socketpair()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(str(self._path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._live, name="simulated I²C", daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Take the bus away: whoever waits for an answer learns that it is gone."""
        if self._thread is None:
            return
        self._path.unlink(missing_ok=True)
        self._stop.close()
        self._thread.join()
        self._thread = None

    def _live(self) -> None:
        opened = {one.fileno(): one for one in (self._listening, self._stopped)}
        poll = select.poll()
        for descriptor in opened:
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                one = opened[descriptor]
                if one is self._stopped:
                    for each in opened.values():
                        each.close()
                    return
                if one is self._listening:
                    user, _ = self._listening.accept()
                    opened[user.fileno()] = user
                    poll.register(user, select.POLLIN)
                elif not self._serve(one):
                    poll.unregister(descriptor)
                    opened.pop(descriptor).close()

    def _serve(self, user: socket.socket) -> bool:
        """Answer one transfer; false: that one has left."""
        try:
            asked = user.recv(_LONGEST)
        except ConnectionError:
            asked = b""
        if not asked:
            return False
        address, read = _ASKED.unpack_from(asked)
        answer = b""
        try:
            if address not in self._chips:
                raise OSError(errno.EREMOTEIO, "nobody")
            answer = self._chips[address].transfer(asked[_ASKED.size :], read)
            code = 0 if len(answer) == read else errno.EIO
        except OSError as error:
            code = error.errno or errno.EIO
        with suppress(ConnectionError):
            user.send(_ANSWER.pack(code) + answer)
        return True
