"""The request for a WebSocket (RFC 6455, section 4.1), and why a server does not grant it, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from websockets.exceptions import InvalidMessage, InvalidStatus, NegotiationError
from websockets.uri import WebSocketURI

from gateway.mqtt.address import Address
from gateway.mqtt.options import Options

# A server may put many packets into one frame; beyond the largest packet there is room for so much more.
_COMPANY = 1 << 20

_WANTS_CREDENTIALS, _NOT_FOUND = (401, 403, 407), (404, 410)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the server."""

    uri: WebSocketURI
    subprotocols: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    largest: int  # frame, and message in fragments, that is taken, in bytes

    @classmethod
    def of(cls, address: Address, options: Options) -> Request:
        """Return the request for an address."""
        host = address.host if address.host.isascii() else address.host.encode("idna").decode()
        uri = WebSocketURI(address.tls, host, address.port, address.path, "")
        # For MQTT 3.1 too, whose old name is mqttv3.1: offered both, RabbitMQ 3.10 answers both, which is neither.
        return cls(uri, ("mqtt",), options.network.headers, options.maximum_packet_size + _COMPANY)


def refusal_in_words(error: Exception, request: Request) -> str:
    """Return why there is no WebSocket, and what may be done about it."""
    path = request.uri.path
    if isinstance(error, InvalidStatus):
        status, headers = error.response.status_code, error.response.headers
        answer = printable(f"{status} {error.response.reason_phrase}".strip())
        if status in _WANTS_CREDENTIALS:
            return f"the server refuses the WebSocket at {path}: {answer}; it may want other credentials or headers"
        if status in _NOT_FOUND:
            return f"there is no WebSocket at the path {path}: {answer}; another path may be right"
        if 300 <= status < 400:
            places = headers.get_all("Location")
            where = _whereto(places[0], request.uri) if places else "does not say where"
            return f"the server sends us elsewhere ({answer}): {where}"
        return f"the server answers the request for a WebSocket at {path} with {answer}"
    if isinstance(error, NegotiationError):
        return f"the server opens a WebSocket at {path}, but not as it was asked to: {printable(str(error))}"
    cause = error.__cause__ if isinstance(error, InvalidMessage) and error.__cause__ else error
    return f"no WebSocket is spoken there: {printable(str(cause))}"


def _whereto(location: str, uri: WebSocketURI) -> str:
    """Return what to write instead, without what could be a secret."""
    here = f"{'https' if uri.secure else 'http'}://{uri.host}:{uri.port}{uri.path}"
    try:
        there = urlsplit(urljoin(here, location))
        host = there.netloc.rpartition("@")[2]
    except ValueError:
        return "where to is not a URL"
    scheme = {"http": "ws", "https": "wss"}.get(there.scheme, there.scheme)
    return f"write {printable(f'{scheme}://{host}{there.path}')} if that is right"


def printable(words: str) -> str:
    """Return what a server says, made fit for one line of a log."""
    return "".join(character if character.isprintable() else " " for character in words)[:200]
