"""Which process has a port: by its lock, or by having it open."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PATIENCE = 0.25  # seconds; a machine may run thousands of processes

PROC = Path("/proc")


def holder(path: str | Path, proc: Path = PROC) -> str | None:
    """Return `pid 812 (octoprint)` for who has the port `path`; None if nobody has, or nobody can tell."""
    real = os.path.realpath(path)
    pid = _locker(real, proc) or _opener(real, proc, time.monotonic() + _PATIENCE)
    if pid is None:
        return None
    try:
        name = (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return None  # it has just ended
    return f"pid {pid} ({name})" + (", which is this gateway" if pid == os.getpid() else "")


def _locker(path: str, proc: Path) -> int | None:
    """Return who has locked `path`. Everybody may read /proc/locks, unlike another user's /proc/<pid>/fd."""
    try:
        node = Path(path).stat()
        locks = (proc / "locks").read_text()
    except OSError:
        return None
    place = f"{os.major(node.st_dev):02x}:{os.minor(node.st_dev):02x}:{node.st_ino}"
    for line in locks.splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE 812 00:05:89 0 EOF
        if len(words) >= 6 and words[5] == place and words[4].isdigit():
            return int(words[4]) or None
    return None


def _opener(path: str, proc: Path, until: float) -> int | None:
    """Return who has `path` open, looking until the monotonic time `until`."""
    for process in proc.iterdir():
        if time.monotonic() > until:
            return None
        if not process.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) == path for link in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue  # it has ended, or belongs to somebody else
    return None
