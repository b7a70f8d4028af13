"""`sensor-gateway ports`: the serial ports of this machine, and what to write into the config for each."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.tools import FoundPort


def ports(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of the text.")] = False,
) -> None:
    """List the serial ports: what they are, who has them, whether you may open them. Opens none."""
    from gateway import registry

    found: list[FoundPort] = registry.tool("ports")()
    if as_json:
        print(json.dumps([asdict(port) for port in found], indent=2, ensure_ascii=False))
        return
    print("\n".join(map(described, found)) if found else "There is no serial port.")


def described(port: FoundPort) -> str:
    """Return what there is to say about a port, in a few lines."""
    lines = [
        ("config", f'port = "{port.best}"'),
        ("usb", " ".join(filter(None, (port.usb, f"at {port.usb_port}" if port.usb_port else None, port.product)))),
        ("is usually", port.guess),
        ("held by", port.holder),
        ("console", port.console),
        ("access", port.refused or "you may open it"),
    ]
    return "\n".join([port.path, *(f"  {label:<10}  {words}" for label, words in lines if words)])
