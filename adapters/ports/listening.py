"""A port that is listened to by nobody but who looks on: see `adapters.ports.tap`."""

from __future__ import annotations

import re
from typing import NoReturn, cast

from adapters.ports.network import port_at
from adapters.ports.port import Bytesize, Line, Parity


def line_of(words: str) -> Line:
    """Return the line that words such as "9600 8N1" describe. Raises ValueError."""
    match = re.fullmatch(r"([1-9][0-9]{1,7})(?: ([5-8])([NEOMS])(1|1\.5|2))?", words)
    if match is None:
        raise ValueError(f'"{words}" is no line such as "9600 8N1"')
    speed, bits, parity, stop = match.groups()
    return Line(
        baudrate=int(speed),
        bytesize=cast(Bytesize, int(bits or 8)),
        parity=cast(Parity, parity or "N"),
        stopbits=float(stop or 1),
    )


async def listen(port: str, line: str) -> NoReturn:
    """Have the port open until it is unplugged. Raises DeviceError, and ValueError for a wrong line."""
    async with port_at(port, line_of(line)) as opened:
        await opened.deliver(lambda chunk: None)
