"""A file with Python of the user's own: read, if nobody but root and this user can have written it, and run."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import sys
import traceback
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType


def loaded(path: Path) -> ModuleType:
    """Return the module in a file, which is run unless it is as it was the last time.

    Raises ValueError, in words that follow the name of a key, when it cannot be read, might have been written by
    others, or fails; with the line where it fails.
    """
    try:
        # Not to wait for whoever writes to it, if it is a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            _check_trust(path, os.fstat(file.fileno()))
            source = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    return _run(path, source)


def place(path: Path, error: BaseException) -> str:
    """Return the line of the file in which an error came up, as "/etc/mine.py:12"; just the file, if it did not."""
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


@cache
def _run(path: Path, source: bytes) -> ModuleType:
    name = f"sensor_gateway_module_{sha256(bytes(path)).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where the annotations of its classes are looked up
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - it is what the config asks for
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"{place(path, error)}: {type(error).__name__}: {error}") from error
    return module


def _check_trust(path: Path, found: os.stat_result) -> None:
    """Raise ValueError if somebody else could have put the file there, or could have changed it."""
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is not a regular file")
    _check(path, found)
    for folder in {*path.absolute().parents, *path.resolve().parents}:
        _check(folder, folder.stat())


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        words = f"belongs to {_user(found.st_uid)}, and what is in it would run as {_user(os.geteuid())}"
        raise ValueError(f"{path} {words}; type: sudo chown root {shlex.quote(str(path))}")
    # In a folder such as /tmp, only its owner can replace a file.
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        words = f"can be changed by others, and what is in it would run as {_user(os.geteuid())}"
        raise ValueError(f"{path} {words}; type: sudo chmod go-w {shlex.quote(str(path))}")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
