"""What `check` and `adapters` show to a person."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.text import Text

from gateway import registry
from gateway.config import Config
from gateway.config.schema import device as device_schema
from gateway.units import duration_text, size_text


def summary(file: Path, config: Config) -> Text:
    """Return what a config means, in a few lines: who, how much is kept, where to, from what."""
    outbox = config.outbox
    commits = f"written every {duration_text(outbox.commit_interval)}" if outbox.commit_interval else "written at once"
    rows = [
        ("gateway", config.gateway.id, f"publishes under {config.gateway.base}/{config.gateway.id}"),
        ("outbox", f"{size_text(outbox.max_size)} at most", f"{commits} to {outbox.path}"),
    ]
    for name, uplink in config.uplinks.items():
        rows.append(("uplink", name, ", then ".join(broker.url for broker in uplink.brokers)))
    for name, device in config.devices.items():
        places = [getattr(device.adapter, key) for key in device.adapter.exclusive]
        ports = [str(place) for place in places if place is not None]
        rows.append(("device", name, " ".join([device.kind, *ports, *([] if device.enabled else ["(not enabled)"])])))
    if not config.devices:
        rows.append(("device", "none", "so nothing will be read: add [devices.NAME]"))
    return Text.assemble((f"{file} is right\n", "green"), _lines(rows))


def adapters() -> Text:
    """Return the installed adapters with the keys of their devices, each with its default and description."""
    parts: list[Text] = []
    for kind in registry.names():
        try:
            schema = device_schema(kind)
        except registry.AdapterError as error:
            parts.append(Text.assemble((f"{kind}\n", "bold red"), f"  {error}\n"))
            continue
        required = dict.fromkeys(schema["required"], "required")
        required |= {key: "one of these" for branch in schema.get("oneOf", ()) for key in branch["required"]}
        rows = [
            (key, required.get(key) or _default(one), one.get("description", ""))
            for key, one in schema["properties"].items()
            if key != "adapter"
        ]
        about = (schema.get("description") or "").split("\n")[0]
        parts.append(Text.assemble((kind, "bold"), f"  {about}\n", _lines(rows, indent="  ")))
    return Text("\n").join(parts) if parts else Text("No adapter is installed.")


def _default(schema: dict[str, Any]) -> str:
    """Return a key's default as TOML would have it, as far as it fits into a line."""
    if "default" not in schema:
        return ""
    text = json.dumps(schema["default"], ensure_ascii=False)
    return text if len(text) <= 20 else "{ ... }" if text.startswith("{") else "[ ... ]"


def _lines(rows: Iterable[tuple[str, str, str]], indent: str = "") -> Text:
    """Return rows of three as aligned lines. A long last column is left as it is: it may be cut off nowhere."""
    rows = list(rows)
    first, second = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    text = Text()
    for name, middle, last in rows:
        text.append(f"{indent}{name:<{first}}  ", style="cyan")
        text.append(f"{middle:<{second}}  {last}".rstrip() + "\n")
    text.rstrip()
    return text
