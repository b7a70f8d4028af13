"""Opening a link: every way to the address, every protocol level that the broker may speak, within one timeout."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.mqtt.address import Address
from gateway.mqtt.connection import Connection
from gateway.mqtt.errors import ConnectError, ConnectRefused
from gateway.mqtt.listener import Listener
from gateway.mqtt.options import Options
from gateway.mqtt.reasons import UNSUPPORTED_VERSION
from gateway.mqtt.ways import Resolve, Way, ways, within

# Of several failures, the one that came furthest tells most.
_PROGRESS = ("name", "unreachable", "proxy", "tls", "websocket", "closed", "silent", "protocol", "refused")


async def connect(
    address: Address,
    options: Options,
    listener: Listener,
    *,
    received: set[int] | None = None,
    resolve: Resolve | None = None,
) -> Connection:
    """Open a link with a broker: resolve, connect, TLS, CONNECT, CONNACK, all within `options.connect_timeout` seconds.

    Every address of the name is tried, each with its share of the time that is left. Protocol "auto" asks for MQTT 5,
    for 3.1.1 when the broker does not know 5 (CONNACK 0x84 or 0x01) or closes without an answer, and then for 3.1.
    `received` are the identifiers of QoS 2 messages that were told in an earlier connection; the set is kept up to
    date, and emptied when the broker has not kept the session.

    Raises ConnectError, whose `kind` tells at which step; ConnectRefused when the broker said no; ValueError for
    options that MQTT cannot carry. Cancelling leaves nothing open. `resolve` stands in for `socket.getaddrinfo`: it
    takes (host, port), and may block.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + options.connect_timeout
    longest = address.keep_alive_at_most
    if longest is not None:
        options = replace(options, keep_alive=min(options.keep_alive or longest, longest))
    found = await ways(address, options, until, resolve)
    failures: list[ConnectError] = []
    for left in range(len(found), 0, -1):
        now = loop.time()
        try:
            return await _through(found[-left], options, listener, received, now + (until - now) / left)
        except ConnectRefused:
            raise  # it is an answer, and the same broker stands behind the other addresses
        except ConnectError as error:
            failures.append(error)
    furthest = max(failures, key=lambda error: _PROGRESS.index(error.kind))
    if len(failures) == 1:
        raise furthest
    words = "; ".join(dict.fromkeys(str(error) for error in failures))
    raise ConnectError(words, kind=furthest.kind) from furthest


async def _through(
    way: Way, options: Options, listener: Listener, received: set[int] | None, until: float
) -> Connection:
    *newer, oldest = options.levels
    for level in newer:
        try:
            return await _attempt(way, Connection(options, level, listener, received), until)
        except ConnectError as error:
            if not older(error):
                raise
    return await _attempt(way, Connection(options, oldest, listener, received), until)


def older(error: ConnectError) -> bool:
    """Return whether a failure may mean that the broker knows only an older protocol."""
    if isinstance(error, ConnectRefused):
        return error.reason in (UNSUPPORTED_VERSION, 1)
    return error.kind == "closed"


async def _attempt(way: Way, connection: Connection, until: float) -> Connection:
    try:
        await way.open(connection, until)
        async with within(until, "silent", f"{way} does not answer CONNECT"):
            await connection.welcomed()
    except BaseException:
        await connection.close(0)
        raise
    return connection
