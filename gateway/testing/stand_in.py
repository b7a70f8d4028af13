"""What stands in for a device in a test: it can be plugged in, be made to speak, and be pulled out."""

from __future__ import annotations

import errno
import os
import tty
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

Answer = Callable[[bytes], bytes]
"""What a device answers to what was written to it; nothing, if that is no question."""


class StandIn(Protocol):
    """A device in a test. The suite plugs it in before each check, and pulls it out after it."""

    @property
    def keys(self) -> Mapping[str, Any]:
        """The keys of a `[devices.<name>]` table that lead to it, with short times wherever the adapter waits."""
        ...

    @property
    def can_be_lost(self) -> bool:
        """Whether `lose` is anything that the adapter can notice."""
        ...

    def plug(self) -> None:
        """Plug it in, for the first time or again."""
        ...

    def speak(self) -> None:
        """Have it say what makes a reading, if it is plugged in; called every few milliseconds, in the event loop."""
        ...

    def lose(self) -> None:
        """Pull it out."""
        ...


class NoDevice:
    """For an adapter that reads nothing that could be missing, such as a calculation."""

    can_be_lost = False

    def __init__(self, **keys: Any) -> None:
        self.keys = keys

    def plug(self) -> None:
        """Do nothing."""

    def speak(self) -> None:
        """Do nothing."""

    def lose(self) -> None:
        """Do nothing."""


class SerialStandIn:
    """A device at a serial port, made of a pseudo-terminal: it says something by itself, or answers.

    `folder` is where the port's name is made; `says` is what it says each time; `answers` tells what it answers.
    `keys` are the keys that the device's table has beside `port`.
    """

    can_be_lost = True

    def __init__(self, folder: Path, says: bytes = b"", answers: Answer | None = None, **keys: Any) -> None:
        self._link = folder / "tty"
        self._says = says
        self._answers = answers
        self._master = -1
        self._rest = b""  # of what it is saying
        self.keys = {"port": str(self._link), **keys}

    def plug(self) -> None:
        """Make a new terminal, and the port's name point to it."""
        self._master, node = os.openpty()
        tty.setraw(node)  # or it would echo what it says until an adapter opens it
        terminal = os.ttyname(node)
        os.close(node)
        os.set_blocking(self._master, False)
        self._rest = b""
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(terminal)

    def speak(self) -> None:
        """Say what it has to say, or answer what was asked; what does not fit into the terminal comes the next time."""
        if self._master < 0:
            return
        try:
            if self._answers is not None:
                self._rest += self._answers(os.read(self._master, 4096))
            elif not self._rest:
                self._rest = self._says
            while self._rest:
                self._rest = self._rest[os.write(self._master, self._rest) :]
        except BlockingIOError:
            return  # nobody reads, or nothing was asked
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has it open
                raise

    def lose(self) -> None:
        """Hang up: whoever has the port open reads its end, and its name is gone."""
        if self._master >= 0:
            # First the name: the kernel gives the terminal's own at once to the next terminal of any process.
            self._link.unlink()
            os.close(self._master)
            self._master = -1
