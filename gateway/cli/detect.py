"""`sensor-gateway detect`: what is speaking at a serial port, as lines for the config."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.adapter import Adapter
    from gateway.tools import Detect, FindPorts, Guess, Heard

EX_UNKNOWN = 1
EX_UNAVAILABLE = 69  # sysexits.h: the port cannot be opened


def detect(
    port: Annotated[str, typer.Argument(metavar="PORT", help="/dev/ttyUSB0, or socket://HOST:PORT.")],
    duration: Annotated[str, typer.Option("--for", metavar="60s", help="How long to listen at most.")] = "60s",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the text.")] = False,
) -> None:
    """Listen at a port at the usual speeds, say what speaks there, and print what to paste into the config.

    Writes nothing to the port, and so finds no device that speaks only when it is asked. Exit status: 0 found,
    1 not found, 69 the port cannot be opened.
    """
    from gateway import DeviceError, registry
    from gateway.units import parse_duration

    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    listen: Detect = registry.tool("detect")
    find: FindPorts = registry.tool("ports")

    def progress(line: str) -> None:
        print(f"listening: {line}", file=sys.stderr, flush=True)

    try:
        heard = asyncio.run(listen(port, _kinds(), seconds, progress))
    except DeviceError as error:
        print(f"sensor-gateway detect: {error}", file=sys.stderr)
        raise typer.Exit(EX_UNAVAILABLE) from None
    best = next((one.best for one in find() if one.path == port), port)
    if as_json:
        print(json.dumps({**asdict(heard), "sample": heard.sample.hex(), "port": best}, ensure_ascii=False))
    else:
        print(report(heard, best))
    raise typer.Exit(0 if heard.guesses else EX_UNKNOWN)


def _kinds() -> dict[str, type[Adapter]]:
    """Return the adapters that can be imported here; another may lack a package, which is no reason not to look."""
    from gateway import registry

    kinds = {}
    for name in registry.names():
        try:
            kinds[name] = registry.adapter(name)
        except registry.AdapterError as error:
            print(f"sensor-gateway detect: left out: {error}", file=sys.stderr)
    return kinds


def report(heard: Heard, port: str) -> str:
    """Return what came of it: the lines for the config, or what to try when nothing is known."""
    if heard.guesses:
        best, *others = heard.guesses
        # The same kind is named once, and another one only if it is about as likely.
        likely = {
            one.adapter: one for one in others if one.adapter != best.adapter and one.evidence > best.evidence / 4
        }
        lines = [_found(best), "", block(best, port)]
        lines += [f"\n# Less likely: {_found(one).removeprefix('# ')}" for one in list(likely.values())[:2]]
        return "\n".join(lines)
    if not heard.size:
        return (
            f"Nothing came at {', '.join(heard.tried)}.\n"
            "Is the device powered? Is its TX wired to RX here? Does it speak only when it is asked, as with Modbus or "
            "MH-Z19?"
        )
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in heard.sample)
    return (
        f"{heard.size} bytes came, and nothing that is known, at {', '.join(heard.tried)}.\n"
        f"Clearest: {heard.sample.hex(' ')}  {text}\n"
        'A regular expression (adapter = "serial-text") or a description of its frames (adapter = "serial-binary") may '
        "read it."
    )


def _found(guess: Guess) -> str:
    values = ", ".join(f"{name} {value}" for name, value in list(guess.values.items())[:4])
    more = ", ..." if len(guess.values) > 4 else ""
    frames = "1 frame" if guess.frames == 1 else f"{guess.frames} frames"
    return f"# {guess.adapter} at {guess.line}: {frames}, {guess.share:.0%} of what came; the last: {values}{more}"


def block(guess: Guess, port: str) -> str:
    """Return the lines for the config."""
    keys = {"adapter": guess.adapter, "port": port, **guess.keys}
    return "\n".join([f"[devices.{guess.adapter}]", *(f"{key} = {toml(value)}" for key, value in keys.items())])


def toml(value: Any) -> str:
    """Spell a value as TOML does, which is as JSON does for what a guess may hold; a pattern is easier to read raw."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str) and re.search(r"\\", value) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)
