"""The lock file: one outbox serves one process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from gateway.outbox.errors import OutboxInUse


def lock(path: Path) -> int:
    """Take the lock file and write our process id into it. Raises OutboxInUse."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
        os.close(descriptor)
        raise OutboxInUse(
            f"the outbox {path.with_suffix('')} is in use by process {holder}: "
            "one outbox serves one gateway. Stop that one, or give this one another [outbox] path"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    with suppress(OSError):  # on a card that is full: who holds it is not said
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
