"""Small files that a power cut leaves as they were or as they are to be, never in between."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Make the file hold `data`, on the card, or leave it as it was. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    _write(fresh, data, os.O_CREAT | os.O_TRUNC)
    fresh.replace(path)
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Put `data` behind what the file holds, on the card. Raises OSError; then a part of it may be there."""
    _write(path, data, os.O_APPEND)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, how: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | how, 0o640)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
