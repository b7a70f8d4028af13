"""A serial cable made of a pseudo-terminal: it can be plugged in, written to, and pulled out again."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self


class Cable:
    """`with Cable(tmp_path / "tty") as cable:` plugs it in; `cable.path` is a link to the terminal of the moment."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master = -1
        self.terminal = ""  # where the link points

    @property
    def path(self) -> str:
        return str(self.link)

    def plug(self) -> None:
        """Plug it in: a new terminal appears, and the link is moved to it."""
        self.master, slave = os.openpty()
        self.terminal = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self.master, False)
        moved = self.link.with_name(f"{self.link.name}.new")
        moved.symlink_to(self.terminal)
        moved.replace(self.link)

    def unplug(self) -> None:
        """Pull it out: the terminal hangs up, and the link is gone."""
        if self.master >= 0:
            # First the link: the kernel gives the terminal's own name at once to the next terminal of any process.
            self.link.unlink(missing_ok=True)
            os.close(self.master)
            self.master = -1

    def write(self, data: bytes) -> int:
        """Write like a device, and return how many bytes fitted."""
        return os.write(self.master, data)

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
