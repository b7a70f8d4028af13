"""The kernel's GPIO lines, requested through libgpiod: the only room that knows gpiod."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adapters.ports.gpio_line import KEPT, TakenOver, Wanted
from adapters.ports.refused import cannot_open
from gateway import DeviceError

if TYPE_CHECKING:
    from types import ModuleType

_FOLDER = "/dev"


class KernelLine:
    """A line of the kernel, requested through libgpiod."""

    def __init__(self, request: Any, offset: int, values: Any) -> None:
        self._request = request
        self._offset = offset
        self._values = values  # gpiod.line.Value
        self.fd: int = request.fd
        os.set_blocking(self.fd, False)

    def get(self) -> bool:
        """Return the level now. Raises OSError."""
        return bool(self._request.get_value(self._offset) is self._values.ACTIVE)

    def set(self, level: bool) -> None:
        """Drive an output. Raises OSError."""
        self._request.set_value(self._offset, self._values.ACTIVE if level else self._values.INACTIVE)

    def release(self) -> None:
        """Give the line back."""
        self._request.release()


def open_kernel(wanted: Wanted, folder: str = _FOLDER, gpiod: Any = None) -> KernelLine:
    """Request a line from the kernel. Raises DeviceError that says what is there, who has it, and what to do."""
    gpiod = gpiod or _gpiod()
    path, offset = find(gpiod, wanted, folder)
    try:
        with gpiod.Chip(path) as chip:
            request = chip.request_lines(
                {offset: settings(gpiod, wanted)}, consumer=wanted.consumer, event_buffer_size=KEPT
            )
    except OSError as error:
        raise _refused(gpiod, wanted, path, offset, error) from error
    try:
        return KernelLine(request, offset, gpiod.line.Value)
    except BaseException:
        request.release()
        raise


def unavailable() -> str | None:
    """Say why no line of the kernel can be requested here, whatever is connected; None, if nothing is in the way."""
    try:
        _gpiod()
    except DeviceError as error:
        return str(error)
    return None


def _gpiod() -> ModuleType:
    try:
        import gpiod
    except ImportError:
        raise DeviceError("GPIO needs the package gpiod; type: pip install 'sensor-gateway[gpio]'") from None
    if not hasattr(gpiod, "LineSettings"):
        raise DeviceError(
            "the package gpiod here has the interface of version 1 (bookworm's python3-libgpiod has); version 2 is "
            "needed; in a virtual environment, type: pip install 'sensor-gateway[gpio]'"
        )
    return gpiod


def settings(gpiod: Any, wanted: Wanted) -> Any:
    """Return the gpiod.LineSettings for a line."""
    line = gpiod.line
    bias = {"as-is": "AS_IS", "disabled": "DISABLED", "pull-up": "PULL_UP", "pull-down": "PULL_DOWN"}[wanted.bias]
    common = {"active_low": wanted.active_low, "bias": line.Bias[bias]}
    if wanted.output is not None:
        return gpiod.LineSettings(
            direction=line.Direction.OUTPUT,
            drive=line.Drive[wanted.drive.upper().replace("-", "_")],
            output_value=line.Value.ACTIVE if wanted.output else line.Value.INACTIVE,
            **common,
        )
    return gpiod.LineSettings(
        direction=line.Direction.INPUT,
        edge_detection=line.Edge.BOTH if wanted.falling else line.Edge.RISING,
        debounce_period=timedelta(seconds=wanted.debounce),
        event_clock=line.Clock.MONOTONIC,
        **common,
    )


def find(gpiod: Any, wanted: Wanted, folder: str = _FOLDER) -> tuple[str, int]:
    """Return the path of the chip and the offset of the line. Raises DeviceError if there is none, or more than one."""
    paths = sorted(
        {str(path.resolve()) for path in Path(folder).glob("gpiochip*")},
        key=lambda path: (len(path), path),  # gpiochip10 after gpiochip9
    )
    if not paths:
        raise DeviceError(f"there is no GPIO chip here ({folder}/gpiochip*)")
    found: list[_Found] = []
    chips: list[str] = []
    forbidden: tuple[str, OSError] | None = None
    for path in paths:
        try:
            with gpiod.Chip(path) as chip:
                info = chip.get_info()
                chips.append(f"{info.name} ({info.label}, {info.num_lines} lines)")
                names = (info.name, info.label, path)
                if wanted.chip is None or wanted.chip in names or os.path.realpath(wanted.chip) == path:
                    found += _lines(chip, path, info, wanted.line)
        except OSError as error:
            if error.errno == errno.EACCES and forbidden is None:
                forbidden = path, error
            chips.append(f"{path} ({error.strerror})")
    sought = wanted.line
    found = [one for one in found if one.is_sure] or found
    if len(found) == 1:
        if isinstance(sought, TakenOver):
            sought.seen = found[0].identity
        return found[0].identity[:2]
    where = f' on chip "{wanted.chip}"' if wanted.chip is not None else ""
    if found:
        raise DeviceError(
            f"more than one line is {_named(sought)}{where}: {_listed([one.words for one in found])}; "
            "say which with chip = and, as line = , its number there"
        )
    if forbidden is not None:
        raise cannot_open(*forbidden)
    raise DeviceError(f"there is no line {_named(sought)}{where}; there are {_listed(chips)}")


class _Found(NamedTuple):
    identity: tuple[str, int, str, str]  # path of the chip, offset, label of the chip, name of the line
    is_sure: bool = True  # False: it is where the line was that is not in use any more

    @property
    def words(self) -> str:
        path, offset, label, name = self.identity
        return f'"{name}" ({path} {offset}, {label})'


def _lines(chip: Any, path: str, info: Any, sought: str | int | TakenOver) -> list[_Found]:
    """Return the lines of a chip that may be meant."""
    if isinstance(sought, int):
        return [_Found((path, sought, info.label, ""))] if sought < info.num_lines else []
    found = []
    for offset in range(info.num_lines):
        line = chip.get_line_info(offset)
        one = _Found((path, offset, info.label, line.name))
        if not isinstance(sought, TakenOver):
            found += [one] if line.name == sought else []
        elif line.used and line.consumer == sought.consumer:
            found.append(one)
        elif one.identity == sought.seen:
            found.append(one._replace(is_sure=False))
    return found


def _refused(gpiod: Any, wanted: Wanted, path: str, offset: int, error: OSError) -> DeviceError:
    if error.errno == errno.EBUSY:
        holder = ""
        try:
            with gpiod.Chip(path) as chip:
                consumer = chip.get_line_info(offset).consumer
                holder = f' by "{consumer}"' if consumer else ""
        except OSError:
            pass
        if isinstance(wanted.line, TakenOver):
            return DeviceError(f"line {offset} of {path} is in use{holder}: it is taken over once it is given back")
        return DeviceError(f"line {_named(wanted.line)} is in use{holder}")
    if error.errno == errno.EACCES:
        return cannot_open(path, error)
    hint = "; this chip may not have that bias or debounce" if error.errno in (errno.EINVAL, errno.ENOTSUP) else ""
    return DeviceError(f"cannot have line {_named(wanted.line)} of {path}: {error.strerror}{hint}")


def _named(line: str | int | TakenOver) -> str:
    if isinstance(line, TakenOver):
        return f'in use by "{line.consumer}"'
    return f"number {line}" if isinstance(line, int) else f'"{line}"'


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)
