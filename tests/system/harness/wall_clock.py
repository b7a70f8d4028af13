"""The wall clock of a child process: it shows what the test wants, and jumps while every other clock goes on."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

MISSING = "a C compiler is missing. Type: sudo apt-get install gcc libc6-dev"


class WallClock:
    """A small library that is preloaded, and the file that says how far it shifts the clock."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.fail(MISSING, pytrace=False)
        library = folder / "wall_clock.so"
        source = Path(__file__).with_suffix(".c")
        how = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
        done = subprocess.run([compiler, *how], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            pytest.fail(f"{MISSING}\n{done.stderr}", pytrace=False)
        self._file = folder / "wall_clock.shift"
        self.right()
        self.environ = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}
        """What a process needs to be under it."""

    def show(self, utc: float) -> None:
        """Have it show this, in UTC seconds, and go on from there."""
        self._shift(utc - time.time())

    def right(self) -> None:
        """Have it show the right time."""
        self._shift(0.0)

    def _shift(self, seconds: float) -> None:
        shift = struct.pack("=q", round(seconds * 1e9))
        if self._file.exists():
            with self._file.open("r+b") as file:  # in place: it is mapped
                file.write(shift)
        else:
            self._file.write_bytes(shift)
