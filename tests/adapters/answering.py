"""A made-up device at a pseudo-terminal that answers what is written to it, and notes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from tests.adapters.cable import Cable


class Answering(Cable):
    """`with Answering(tmp_path / "tty", answer) as cable:` in a loop; `answer` gets what was written in one go."""

    def __init__(self, link: Path, answer: Callable[[bytes], bytes]) -> None:
        super().__init__(link)
        self.asked: list[bytes] = []
        self._answer = answer
        self._held = -1  # open on the device's side as well, so that the terminal outlives its readers

    def plug(self) -> None:
        """Plug it in, and listen."""
        super().plug()
        self._held = os.open(self.terminal, os.O_RDWR | os.O_NOCTTY)
        asyncio.get_running_loop().add_reader(self.master, self._heard)

    def unplug(self) -> None:
        """Listen no longer, and pull it out."""
        if self.master >= 0:
            asyncio.get_running_loop().remove_reader(self.master)
            os.close(self._held)
        super().unplug()

    def _heard(self) -> None:
        asked = os.read(self.master, 4096)
        self.asked.append(asked)
        if answer := self._answer(asked):
            self.write(answer)
