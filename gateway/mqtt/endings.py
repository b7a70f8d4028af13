"""Why a link ended, or could not be made, in words of the world."""

from __future__ import annotations

import ssl

from gateway.mqtt.errors import ConnectionLost, ConnectRefused
from gateway.mqtt.packets import Connack, Disconnect
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import connack_in_words, in_words
from gateway.mqtt.tls import failure_in_words


def lost_in_words(exc: Exception | None) -> str:
    """Return why the transport is gone; None: the broker has closed it."""
    if exc is None:
        return "the broker closed the connection"
    if isinstance(exc, ssl.SSLError):
        return failure_in_words(exc)
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror[0].lower() + exc.strerror[1:]
    return f"{type(exc).__name__}: {exc}"


def dropped(exc: Exception | None) -> ConnectionLost:
    """Return the error for a link whose transport is gone."""
    # What the network has to say (no route, timed out) is not the broker's doing.
    by_broker = not isinstance(exc, OSError) or isinstance(exc, (ConnectionError, ssl.SSLError))
    return ConnectionLost(lost_in_words(exc), by_broker=by_broker)


def refused(connack: Connack, level: int) -> ConnectRefused:
    """Return the error for a CONNACK that says no to a CONNECT of this level."""
    words = f"refused by the broker: {connack_in_words(connack.reason, level)}{_quoted(connack.properties)}"
    reference = connack.properties.get("server_reference")
    return ConnectRefused(words, reason=connack.reason, level=level, server_reference=reference)


def ended(packet: Disconnect) -> ConnectionLost:
    """Return the error for a DISCONNECT from the broker."""
    words = f"the broker ended the session: {in_words(packet.reason)}{_quoted(packet.properties)}"
    reference = packet.properties.get("server_reference")
    return ConnectionLost(words, reason=packet.reason, server_reference=reference, by_broker=True)


def _quoted(properties: Properties) -> str:
    """Return what the broker says in its own words."""
    said = properties.get("reason_string", "")
    reference = properties.get("server_reference", "")
    return (f": {printable(said)}" if said else "") + (f" (server: {printable(reference)})" if reference else "")


def printable(said: str, most: int = 200) -> str:
    """Make text from outside fit for one line of a log."""
    return "".join(character if character.isprintable() else " " for character in said[:most])
