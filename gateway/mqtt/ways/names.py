"""Names to addresses, without blocking the loop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from gateway.mqtt.aside import aside
from gateway.mqtt.errors import ConnectError
from gateway.mqtt.ways.deadline import within

# One answer of `socket.getaddrinfo`: family, type, protocol, canonical name, target.
Info = tuple[Any, ...]
Resolve = Callable[[str, int], list[Info]]


async def resolved(host: str, port: int, until: float, resolve: Resolve | None = None) -> list[Info]:
    """Return the addresses of a host, best first, by the loop time `until`. Raises ConnectError.

    `resolve` takes (host, port) and returns what `socket.getaddrinfo` does; it may block.
    """
    try:
        return getaddrinfo(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # a name, then
    resolve = resolve or getaddrinfo
    async with within(until, "name", f"the name {host} could not be resolved"):
        try:
            infos = await aside((resolve, host, port), partial(resolve, host, port))
        except (OSError, UnicodeError) as error:
            words = str(getattr(error, "strerror", None) or error).lower()
            raise ConnectError(f"the name {host} cannot be resolved: {words}", kind="name") from error
    if not infos:
        raise ConnectError(f"the name {host} has no address", kind="name")
    return in_turn(infos)


def in_turn(infos: list[Info]) -> list[Info]:
    """Return the addresses with the families in turn, the best one's first (RFC 8305, section 4).

    Where IPv6 leads nowhere, the second attempt is already IPv4, however many addresses of IPv6 there are.
    """
    families = dict.fromkeys(info[0] for info in infos)
    turns = zip_longest(*([info for info in infos if info[0] == family] for family in families))
    return [info for info in chain.from_iterable(turns) if info is not None]


def getaddrinfo(host: str, port: int, flags: int = 0) -> list[Info]:
    """Return what the system knows about a host, for TCP."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
