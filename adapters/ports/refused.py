"""Why a port could not be opened, in words for a person: who holds it, whose it is, and what to do."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import termios
from pathlib import Path

from adapters.ports.holder import holder
from gateway import DeviceError


class PortMissing(DeviceError, FileNotFoundError):
    """There is no such port: not plugged in, or another name."""


def cannot_open(path: str, error: Exception) -> DeviceError:
    """Return the DeviceError that tells a person why `path` could not be opened, who holds it, and what to do."""
    code = _code(error)
    if code == errno.ENOENT:
        return PortMissing(f"cannot open {path}: {_missing(path)}")
    if code in (errno.ENXIO, errno.ENODEV, errno.EIO):
        return DeviceError(f"cannot open {path}: the port is there, but no device answers behind it")
    if code == errno.EACCES:
        return DeviceError(f"cannot open {path}: permission denied ({permissions(path)}")
    if code == errno.EPERM:
        return DeviceError(
            f"cannot open {path}: not permitted, though the file's mode may allow it. "
            "Fix: name the device's major number in the service unit's DeviceAllow="
        )
    if code in (errno.EBUSY, errno.EAGAIN):
        return DeviceError(f"cannot open {path}: held by {holder(path) or 'another process'}")
    if code in (errno.ENOTTY, errno.EISDIR):
        return DeviceError(f"cannot open {path}: not a serial port")
    return DeviceError(f"cannot open {path}: {os.strerror(code) if code else error}")


def _code(error: Exception) -> int | None:
    """Find the error number, which pyserial sometimes leaves in the exception behind its own."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno:
            return behind.errno
        if isinstance(behind, termios.error) and behind.args and isinstance(behind.args[0], int):
            return behind.args[0]
        behind = behind.__cause__ or behind.__context__
    return None


def _missing(path: str) -> str:
    link = Path(path)
    if link.is_symlink():
        return f"not there (it points to {os.path.realpath(link)})"
    return "not there"


def permissions(path: str) -> str:
    """Say whose the port is, who asks, and the command that mends it; closes the bracket that the caller opened."""
    user = _user(os.geteuid())
    mine = sorted({os.getegid(), *os.getgroups()})
    groups = ", ".join(_group(group) for group in mine)
    try:
        found = Path(path).stat()
    except OSError:
        return f"this process is user {user}, groups {groups})"
    owner, group, mode = _user(found.st_uid), _group(found.st_gid), stat.S_IMODE(found.st_mode)
    wanted = stat.S_IRGRP | stat.S_IWGRP
    if mode & wanted != wanted:
        fix = f'give its group access with a udev rule: MODE="0660", GROUP="{group}"'
    elif found.st_gid in mine:
        fix = "look for an access list or a security module that forbids it"
    else:
        fix = f"sudo usermod -aG {group} {user}, then start the service (or log in) again"
    return f"{owner}:{group} {mode:04o}; this process is user {user}, groups {groups}). Fix: {fix}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
