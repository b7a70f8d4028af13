"""`sensor-gateway read`: what one device of the config says, without a broker and without the outbox."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.run import DEFAULT_CONFIG, EX_CONFIG
from gateway.cli.until import until_stopped

if TYPE_CHECKING:
    from gateway.adapter import Metric
    from gateway.config import Device
    from gateway.reading import Value

EX_NOTHING = 1
WIDTH = 24
"""Bytes in one line of raw input."""


def read(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The name behind `devices.` in the config.")],
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The config.")] = DEFAULT_CONFIG,
    once: Annotated[bool, typer.Option("--once", help="End after the first reading.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Show the bytes that come in as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each reading.")] = False,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="10s", help="How long. Without it: until Ctrl-C.")
    ] = None,
) -> None:
    """Show what a device says, as the gateway understands it. Needs no broker, and leaves the outbox alone.

    Exit status: 0 there was a reading, 1 there was none, 78 the config is wrong or has no such device.
    """
    from gateway import logs
    from gateway.units import parse_duration

    try:
        seconds = None if duration is None else parse_duration(duration)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    table = chosen(config, device)
    logs.configure(style="console")
    shown = asyncio.run(Session(table, once=once, raw=raw, as_json=as_json).run(seconds))
    raise typer.Exit(0 if shown else EX_NOTHING)


def chosen(config: Path, name: str) -> Device:
    """Return the device; end the command with what is wrong if that cannot be."""
    from gateway.config import ConfigError, load_devices
    from gateway.config.problems import did_you_mean

    try:
        devices = load_devices(config, only=name)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EX_CONFIG) from None
    if name not in devices:
        there = ", ".join(devices) or "none"
        words = f'there is no device "{name}"{did_you_mean(name, devices)} (devices: {there})'
        print(f"{config}: error: {words}", file=sys.stderr)
        raise typer.Exit(EX_CONFIG)
    return devices[name]


class Session:
    """One device that runs, and what is printed of it."""

    def __init__(self, device: Device, *, once: bool = False, raw: bool = False, as_json: bool = False) -> None:
        self.shown = 0
        self.skipped: dict[str, int] = {}  # how often input was thrown away, for each reason, in the end
        self._device = device
        self._once = once
        self._raw = raw
        self._as_json = as_json
        self._stop = asyncio.Event()

    async def run(self, seconds: float | None = None) -> int:
        """Print until SIGINT, SIGTERM or the end of `seconds`; return how many readings there were."""
        import structlog

        from gateway.devices import RunningDevice

        running = RunningDevice(
            self._device.name,
            self._device.adapter,
            self._device.metrics,
            self._put,
            on_state=lambda *_: None,  # the log says it already
            log=structlog.get_logger(),
            computed=self._device.computed,
        )
        await until_stopped(running.run(), self._stop, seconds, self._tapped())
        self.skipped = running.skipped
        return self.shown

    def _tapped(self) -> AbstractContextManager[None]:
        from gateway import registry

        if not self._raw:
            return nullcontext()
        tap: Callable[..., AbstractContextManager[None]] = registry.tool("tap")
        return tap(self.look)

    def stop(self) -> None:
        """Have it end in order."""
        self._stop.set()

    def look(self, chunk: bytes) -> None:
        """Show what came in."""
        self._print(as_hex(chunk))

    def _put(self, _: str, values: dict[str, Value], moment: float | None, age: float = 0.0) -> None:
        if self._stop.is_set():
            return
        at = time.time() - age if moment is None else moment
        self.shown += 1
        self._print(as_json(values, at) if self._as_json else as_text(values, at, self._device.metrics))
        if self._once:
            self._stop.set()

    def _print(self, words: str) -> None:
        if self._stop.is_set():
            return
        try:
            print(words, flush=True)
        except BrokenPipeError:  # whoever read this has seen enough; it is no failure of the device
            sys.stdout = None  # else Python complains at the end
            self._stop.set()


def as_text(values: Mapping[str, Any], at: float, metrics: Mapping[str, Metric]) -> str:
    """Return one reading as a line for a person: local time, then each metric with its unit."""
    moment = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03}"
    units = {name: f" {metric.unit}" for name, metric in metrics.items() if metric.unit}
    return "  ".join([moment, *(f"{name} {value}{units.get(name, '')}" for name, value in values.items())])


def as_json(values: Mapping[str, Any], at: float) -> str:
    """Return one reading as JSON, with `ts` in milliseconds as in a payload."""
    return json.dumps({"ts": round(at * 1000), **values}, ensure_ascii=False)


def as_hex(chunk: bytes) -> str:
    """Return bytes as lines of hexadecimal digits and, beside them, what can be read of them."""
    lines = []
    for at in range(0, len(chunk), WIDTH):
        part = chunk[at : at + WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"< {part.hex(' '):<{3 * WIDTH - 1}}  {text}")
    return "\n".join(lines)
