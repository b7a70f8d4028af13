"""A card that fails on demand: SQLite's way to its files, with a hook in it, in this process and without a compiler.

https://www.sqlite.org/vfs.html
"""

from __future__ import annotations

import ctypes
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from ctypes import CFUNCTYPE, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, Self

FULL = sqlite3.SQLITE_FULL
READ_ONLY = sqlite3.SQLITE_READONLY
WRITE, SYNC, READ = sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_READ

_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_MOVE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)  # read, write
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)


class _Vfs(Structure):
    _fields_ = (
        ("version", c_int),
        ("size", c_int),
        ("longest", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("rest", c_void_p * 14),
    )


class _Methods(Structure):
    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("rest", c_void_p * 13),
    )


def library() -> ctypes.CDLL:
    """Return the very library that the module sqlite3 uses. Raises OSError where it is not a shared one."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split()[-1] for line in maps if "libsqlite3" in line}
    if len(paths) != 1:
        raise OSError(f"sqlite3 is not linked with one shared library, so no card can be made to fail: {paths}")
    library = ctypes.CDLL(paths.pop())
    library.sqlite3_vfs_find.restype = c_void_p
    library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
    library.sqlite3_vfs_unregister.argtypes = [c_void_p]
    return library


class Card:
    """Counts what SQLite does with its files, and fails where `fault` says so. Use as `with`.

    `fault(operation, number)` returns SQLite's code of an error, or 0; an operation is "read", "write", "sync" or
    "truncate", and the number counts all operations from 1. It may also take its time.
    """

    def __init__(self) -> None:
        self.fault: Callable[[str, int], int] | None = None
        self.torn = False  # a write that fails has written its first half
        self.bad: range | None = None  # bytes of any file that cannot be read
        self.count = 0
        self.operations: list[str] = []
        self.failed: Counter[str] = Counter()
        self._kept: list[Any] = []  # must live as long as SQLite may call it
        self._methods: dict[int, _Methods] = {}

    def __enter__(self) -> Self:
        """Have every file that is opened from here on go through the hook. Raises OSError where that cannot be."""
        self._library = library()
        self._default = self._library.sqlite3_vfs_find(None)
        original = _Vfs.from_address(self._default)
        self._vfs = _Vfs.from_buffer_copy(original)
        self._vfs.name = b"failing-card"
        real_open = _OPEN(original.open)

        def opened(_: int, name: int, file: int, flags: int, out: int) -> int:
            code = int(real_open(self._default, name, file, flags, out))
            methods = c_void_p.from_address(file)
            if code == 0 and methods.value:
                methods.value = ctypes.addressof(self._hooked(methods.value))
            return code

        self._vfs.open = self._keep(_OPEN(opened))
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.fault = None
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))
        self._library.sqlite3_vfs_register(self._default, 1)

    def restart(self, fault: Callable[[str, int], int] | None) -> None:
        """Count from here on, and fail like this."""
        self.count, self.operations, self.fault = 0, [], fault

    def heal(self) -> None:
        """Fail no more."""
        self.fault = None

    def _keep(self, function: Any) -> int:
        self._kept.append(function)
        return ctypes.cast(function, c_void_p).value or 0

    def _hooked(self, address: int) -> _Methods:
        if address in self._methods:
            return self._methods[address]
        original = _Methods.from_address(address)
        methods = self._methods[address] = _Methods.from_buffer_copy(original)
        read, write = _MOVE(original.read), _MOVE(original.write)
        sync, truncate = _SYNC(original.sync), _TRUNCATE(original.truncate)

        def hooked_write(file: int, data: int, size: int, at: int) -> int:
            if code := self._fails("write"):
                if self.torn:
                    write(file, data, size // 2, at)
                return code
            return int(write(file, data, size, at))

        def hooked_read(file: int, data: int, size: int, at: int) -> int:
            code = self._fails("read")
            if self.bad is not None and at < self.bad.stop and at + size > self.bad.start:
                code = READ
            return code or int(read(file, data, size, at))

        methods.read = self._keep(_MOVE(hooked_read))
        methods.write = self._keep(_MOVE(hooked_write))
        methods.sync = self._keep(_SYNC(lambda file, flags: self._fails("sync") or sync(file, flags)))
        methods.truncate = self._keep(_TRUNCATE(lambda file, size: self._fails("truncate") or truncate(file, size)))
        return methods

    def _fails(self, operation: str) -> int:
        self.count += 1
        self.operations.append(operation)
        code = self.fault(operation, self.count) if self.fault is not None else 0
        if code:
            self.failed[operation] += 1
        return code


def during(operations: set[str], code: int, start: int = 1, end: int = 1 << 62) -> Callable[[str, int], int]:
    """Return a fault of these operations from the one of number `start` on, before the one of number `end`."""
    return lambda operation, number: code if operation in operations and start <= number < end else 0


def slow(seconds: float) -> Callable[[str, int], int]:
    """Return a card that takes so long for a sync."""

    def fault(operation: str, _: int) -> int:
        if operation == "sync":
            time.sleep(seconds)
        return 0

    return fault
