"""A file with Python of the user's own: a function that reads something, a coroutine, or a whole adapter."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeGuard

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from adapters.ports.module_file import loaded, place
from adapters.sampled_device import SampledDevice, Skip
from gateway import Adapter, Device, DeviceError, FilePath, Value

NEEDED = "def read(), async def run(device) or a class of gateway.Adapter"


class OwnCodeError(RuntimeError):
    """A bug in the user's own code; the words begin with its file and line."""


@dataclass(frozen=True)
class Run:
    """A coroutine function that is run like `Adapter.run`."""

    function: Callable[..., Any]
    options: dict[str, Any]

    async def run(self, device: Device) -> None:
        """Run it."""
        await self.function(device, **self.options)


@dataclass(frozen=True)
class Read:
    """A function that is called for each reading, in a thread, by one at a time."""

    function: Callable[..., Any]
    options: dict[str, Any]
    turn: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def read(self) -> dict[str, Value]:
        """Call it. Raises DeviceError if it is still busy with an earlier call, which nothing can end."""
        if not self.turn.acquire(blocking=False):
            raise DeviceError(f"{_named(self.function)} has not returned since it was called before")
        try:
            values = self.function(**self.options)
        finally:
            self.turn.release()
        if values is None:
            return {}
        if not isinstance(values, Mapping):
            raise OwnCodeError(f"{_named(self.function)} returned {type(values).__name__}, not a dict of its values")
        return dict(values)


Own: TypeAlias = Adapter | Run | Read


class PythonModule(SampledDevice):
    """Runs a file of your own: a function that reads something at each interval, or a whole adapter."""

    path: FilePath = Field(
        description="The file; a relative path begins where the config is. Nobody but root, or the user that the "
        "gateway runs as, may be able to change it."
    )
    use: str | None = Field(
        default=None,
        description="Which function or class of the file; by itself: read, run or the only class of an adapter.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        validate_default=True,
        description="The arguments of the function, or the keys of the class.",
    )
    _own: Own = PrivateAttr()

    @field_validator("path")
    @classmethod
    def _path(cls, given: Path) -> Path:
        loaded(given)
        return given

    @field_validator("options")
    @classmethod
    def _options(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if {"path", "use"} <= info.data.keys():
            try:
                own = _chosen(info.data["path"], info.data["use"])
            except ValueError:
                return given  # it is said below
            if _is_adapter(own):
                _made(own, given, info.context)  # its errors are those of keys, each in its place
        return given

    @model_validator(mode="after")
    def _take(self, info: ValidationInfo) -> Self:
        self._own = _made(_chosen(self.path, self.use), self.options, info.context)
        return self

    def can_set(self, metric: str) -> bool:
        """Say what a class says; a function takes no commands."""
        return isinstance(self._own, Adapter) and self._own.can_set(metric)

    def sample(self, skip: Skip) -> dict[str, Value]:
        """Call the function. See `SampledDevice.sample`; a ValueError is no bug in it, but something unreadable."""
        if not isinstance(self._own, Read):
            raise NotImplementedError
        with pointed(self.path, OSError, ValueError):
            return self._own.read()

    async def run(self, device: Device) -> None:
        """Run what is in the file. Raises DeviceError as ever, and OwnCodeError for a bug in it."""
        if isinstance(self._own, Read):
            await super().run(device)
        else:
            with pointed(self.path, OSError):
                await self._own.run(device)


@contextmanager
def pointed(path: Path, *absences: type[Exception]) -> Iterator[None]:
    """Have errors say in which line of the file they came up: `absences` as a DeviceError, others as OwnCodeError."""
    try:
        yield
    except (DeviceError, OwnCodeError, ExceptionGroup):
        raise  # in words of its own
    except absences as error:
        raise DeviceError(f"{place(path, error)}: {str(error) or type(error).__name__}") from error
    except (Exception, SystemExit) as error:
        raise OwnCodeError(f"{place(path, error)}: {type(error).__name__}: {error}") from error


def _chosen(path: Path, use: str | None) -> Any:
    """Return the function or class that is meant. Raises ValueError."""
    module = loaded(path)
    if use is not None:
        found = vars(module).get(use)
        if not (inspect.isfunction(found) or _is_adapter(found)):
            raise ValueError(f'use: {path} has no function or class of gateway.Adapter called "{use}"')
        return found
    there = {
        name: found
        for name, found in vars(module).items()
        if (name in ("read", "run") and inspect.isfunction(found))
        or (_is_adapter(found) and found.__module__ == module.__name__)
    }
    if not there:
        raise ValueError(f"path: {path} has none of these: {NEEDED}")
    if len(there) > 1:
        raise ValueError(f'path: {path} has {" and ".join(there)}; say which with use = "{next(iter(there))}"')
    return next(iter(there.values()))


def _is_adapter(found: Any) -> TypeGuard[type[Adapter]]:
    return isinstance(found, type) and issubclass(found, Adapter)


def _made(own: Any, options: dict[str, Any], context: Any) -> Own:
    """Return what is to be run, with its options. Raises ValueError when they are not what it takes."""
    if _is_adapter(own):
        # As JSON, like every device's own keys.
        return own.model_validate_json(json.dumps(options, default=str), strict=True, context=context)
    is_coroutine = inspect.iscoroutinefunction(own)
    try:
        inspect.signature(own).bind(*([None] if is_coroutine else []), **options)
    except TypeError as error:
        raise ValueError(f"options: {_named(own)}: {error}") from error
    return Run(own, options) if is_coroutine else Read(own, options)


def _named(function: Callable[..., Any]) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}: {function.__name__}()"
