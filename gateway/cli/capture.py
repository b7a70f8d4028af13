"""`sensor-gateway capture` and `replay`: the bytes of a device with their times, written down and played again."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from gateway.cli.detect import EX_UNAVAILABLE, toml
from gateway.cli.read import Session, chosen
from gateway.cli.run import DEFAULT_CONFIG, EX_CONFIG
from gateway.cli.until import until_stopped

if TYPE_CHECKING:
    from gateway.capture import Capture
    from gateway.config import Device
    from gateway.reading import Value

EX_NOTHING = 1
_PAUSE = 0.005  # seconds between two looks at a terminal, which does not tell when it is empty


def capture(
    source: Annotated[str, typer.Argument(metavar="DEVICE|PORT", help="A device of the config, or /dev/ttyUSB0.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The config.")] = DEFAULT_CONFIG,
    line: Annotated[str, typer.Option(metavar='"9600 8N1"', help="How a port is set; a device knows.")] = "9600 8N1",
    as_case: Annotated[
        Path | None, typer.Option("--as-case", metavar="FOLDER", help="Make a golden case of a device as well.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="10s", help="How long. Without it: until Ctrl-C.")
    ] = None,
) -> None:
    """Write down the bytes that come in, with their times.

    Exit status: 0 something came, 1 nothing did, 69 the port cannot be opened or is gone, 78 the config is wrong.
    """
    from gateway import DeviceError, logs

    seconds = _seconds(duration)
    logs.configure(style="console")
    is_port = "/" in source
    if is_port and as_case is not None:
        raise typer.BadParameter("a port alone has no readings: name a device", param_hint="--as-case")
    device = None if is_port else chosen(config, source)
    about = {"port": source, "line": line} if device is None else {"device": source, "adapter": device.kind}
    try:
        opened = output.open("w", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}", param_hint="--output") from None
    with opened as file:
        recorder = Recorder(file, about)
        try:
            if device is None:
                asyncio.run(recorder.listen(source, line, seconds))
            else:
                session = asyncio.run(recorder.read(device, seconds))
                if as_case is not None:
                    write_case(as_case, device, bytes(recorder.heard), session)
        except DeviceError as error:
            print(f"sensor-gateway capture: {error}", file=sys.stderr)
            raise typer.Exit(EX_UNAVAILABLE) from None
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--line") from None
    print(f"{len(recorder.heard)} bytes in {output}", file=sys.stderr)
    raise typer.Exit(0 if recorder.heard else EX_NOTHING)


def _seconds(duration: str | None) -> float | None:
    from gateway.units import parse_duration

    try:
        return None if duration is None else parse_duration(duration)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None


class Recorder:
    """Writes what comes in to a file, line by line, so that a kill costs no more than the last one."""

    def __init__(self, file: TextIO, about: dict[str, Any]) -> None:
        from gateway.capture import header

        self.heard = bytearray()
        self._file = file
        self._begun: float | None = None
        file.write(header(about))
        file.flush()

    def look(self, chunk: bytes) -> None:
        """Write a chunk down."""
        from gateway.capture import Chunk, line

        now = asyncio.get_running_loop().time()
        self._begun = now if self._begun is None else self._begun
        self.heard += chunk
        self._file.write(line(Chunk(now - self._begun, chunk)))
        self._file.flush()

    async def listen(self, port: str, line: str, seconds: float | None) -> None:
        """Write down what comes at a port. Raises DeviceError, and ValueError for a wrong line."""
        from gateway import registry

        around = registry.tool("tap")(self.look)
        await until_stopped(registry.tool("listen")(port, line), asyncio.Event(), seconds, around)

    async def read(self, device: Device, seconds: float | None) -> Reading:
        """Write down what comes from a device, and return what it was taken for."""
        session = Reading(device, self)
        await session.run(seconds)
        return session


class Reading(Session):
    """A device that is read while its bytes are written down."""

    def __init__(self, device: Device, recorder: Recorder) -> None:
        # Without what the config says of its metrics: a golden case is about the adapter.
        super().__init__(device.model_copy(update={"metrics": {}, "computed": {}}), raw=True)
        self.readings: list[dict[str, Any]] = []
        self._recorder = recorder

    def look(self, chunk: bytes) -> None:
        """Write it down instead of showing it."""
        self._recorder.look(chunk)

    def _put(self, _: str, values: dict[str, Value], moment: float | None, age: float = 0.0) -> None:
        self.readings.append({"values": values} | ({} if moment is None else {"time": moment}))
        super()._put(_, values, moment, age)


def write_case(folder: Path, device: Device, heard: bytes, session: Reading) -> None:
    """Write a golden case: the keys of the device without its port, bytes in, readings out."""
    from pydantic import SecretStr

    folder.mkdir(parents=True, exist_ok=True)
    secrets = {key for key, value in device.adapter if isinstance(value, SecretStr)}
    left_out = secrets | set(device.adapter.exclusive)
    keys = device.adapter.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    keys |= {key: {"file": key} for key in sorted(secrets)}  # that file is for whoever wants the case to write
    (folder / "device.toml").write_text("".join(f"{key} = {toml(value)}\n" for key, value in keys.items()))
    (folder / "wire.bin").write_bytes(heard)
    lines = [json.dumps(reading, ensure_ascii=False) + "\n" for reading in session.readings]
    (folder / "readings.jsonl").write_text("".join(lines))
    skipped = folder / "skipped.json"
    skipped.unlink(missing_ok=True)  # of a case that was there before
    if session.skipped:
        skipped.write_text(json.dumps(session.skipped, indent=2, ensure_ascii=False) + "\n")


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `capture` has written.")],
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="DEVICE", help="Have this device of the config read it."),
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The config.")] = DEFAULT_CONFIG,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as it is read, instead of in its own time.")] = False,
) -> None:
    """Play a capture at a pseudo-terminal, whose name is printed first, or into a device of the config.

    Exit status: 0 it was played (and, with --into, there was a reading), 1 there was none, 78 a file is wrong.
    """
    from gateway import logs
    from gateway.capture import parse

    try:
        with file.open(encoding="utf-8") as lines:
            played = parse(lines)
    except (OSError, ValueError) as error:
        words = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else error
        print(f"{file}: error: {words}", file=sys.stderr)
        raise typer.Exit(EX_CONFIG) from None
    device = None if into is None else chosen(config, into)
    if device is not None and "port" not in device.adapter.exclusive:
        raise typer.BadParameter(f'a device with the adapter "{device.kind}" has no port', param_hint="--into")
    logs.configure(style="console", level="info" if device is None else "warning")
    shown = asyncio.run(Stage(played, fast=fast).play(device))
    raise typer.Exit(0 if device is None or shown else EX_NOTHING)


class Stage:
    """A pseudo-terminal at which a capture is played."""

    def __init__(self, played: Capture, *, fast: bool) -> None:
        self._chunks = played.chunks
        self._fast = fast

    async def play(self, device: Device | None) -> int:
        """Play to the end, or until SIGINT or SIGTERM; return how many readings the device gave."""
        stop = asyncio.Event()
        master, node = os.openpty()
        try:
            tty.setraw(node)
            os.set_blocking(master, False)
            if device is None:
                print(os.ttyname(node), flush=True)
                await until_stopped(self._write(master, node), stop)
                return 0
            return await self._into(device, master, node)
        finally:
            os.close(node)
            os.close(master)

    async def _into(self, device: Device, master: int, node: int) -> int:
        changed = dict.fromkeys(device.adapter.exclusive) | {"port": os.ttyname(node)}
        session = Session(device.model_copy(update={"adapter": device.adapter.model_copy(update=changed)}))
        reading = asyncio.create_task(session.run())
        writing = asyncio.create_task(self._write(master, node))
        try:
            await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.stop()
            writing.cancel()
            await asyncio.wait([reading, writing])
        return reading.result()

    async def _write(self, master: int, node: int) -> None:
        """Write each chunk when its time has come, and return when all of them are read."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for at, data in self._chunks:
            if not self._fast and (wait := begun + at - loop.time()) > 0:
                await asyncio.sleep(wait)
            rest = data
            while rest:
                try:
                    rest = rest[os.write(master, rest) :]
                except BlockingIOError:
                    await asyncio.sleep(_PAUSE)
        while _has_unread(node):  # noqa: ASYNC110 - that somebody else has read it raises no event
            await asyncio.sleep(_PAUSE)


def _has_unread(node: int) -> bool:
    """Return whether something waits for a reader.

    Linux hands over what was written a moment later. A look by poll(2) that finds nothing has it brought first
    (`n_tty_poll`, which FIONREAD does not).
    """
    look = select.poll()
    look.register(node, select.POLLIN)
    return bool(look.poll(0))
