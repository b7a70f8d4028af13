"""What is left of the machine's entropy, as an example of a sensor that nobody else has."""

from __future__ import annotations

from pathlib import Path


def read(path: str = "/proc/sys/kernel/random/entropy_avail") -> dict[str, float]:
    """Return one reading. Called at each interval, in a thread; an OSError means: not there, try later."""
    return {"entropy": float(Path(path).read_text())}
