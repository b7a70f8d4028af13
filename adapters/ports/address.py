"""Addresses of the network: those that this machine listens at, and those that it connects to."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import AfterValidator, WithJsonSchema

_PORT = r":[0-9]{1,5}$"


class Endpoint(NamedTuple):
    """A host, which may be a name or an IP address without brackets, and a port."""

    host: str
    port: int


def endpoint(text: str) -> Endpoint:
    """Take `host:port` apart; an IPv6 address stands in brackets. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or not 0 < int(port) < 65536:
        raise ValueError('must be a host and a port from 1 to 65535, as "192.168.1.5:5005"')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('must have an IPv6 address in brackets, as "[::1]:5005"')
    if not host or any(sign.isspace() or not sign.isprintable() or sign in "/@[]" for sign in host):
        raise ValueError('must be a host and a port, as "192.168.1.5:5005"')
    return Endpoint(host, int(port))


def _reachable(text: str) -> str:
    endpoint(text)
    return text


def _own(text: str) -> str:
    host = endpoint(text).host
    try:
        ip_address(host)
    except ValueError:
        raise ValueError('must be an address of this machine and a port, as "127.0.0.1:5005"') from None
    return text


There: TypeAlias = Annotated[
    str, AfterValidator(_reachable), WithJsonSchema({"type": "string", "pattern": r"^[^\s/@]+" + _PORT})
]
"""A host and a port to connect to."""
Here: TypeAlias = Annotated[
    str,
    AfterValidator(_own),
    WithJsonSchema({"type": "string", "pattern": r"^(\[[0-9a-fA-F:]+\]|[0-9.]+)" + _PORT}),
]
"""An address of this machine and a port to listen at."""
