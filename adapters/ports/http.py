"""Requests over HTTP that others make to this machine: small, one on each connection. The only room that knows h11."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, TypeAlias

from adapters.ports.listener import Way, listening

try:
    import h11
except ImportError as error:
    MISSING: str | None = f"needs the package h11 ({error}); type: pip install 'sensor-gateway[http]'"
else:
    MISSING = None

_HEAD = 8192  # bytes of a request before its body, at most


class Request(NamedTuple):
    """A whole request."""

    method: str
    path: str
    query: str
    headers: dict[str, str]  # by names in small letters
    body: bytes


class Answer(NamedTuple):
    """What is said to a request, and what to wait for before that, if anything."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()
    after: Awaitable[None] | None = None


Answering: TypeAlias = Callable[[Request], Answer]


def serving(
    address: str, answering: Answering, refused: Callable[[str], None], *, most: int, longest: float, largest: int
) -> AbstractAsyncContextManager[Awaitable[None]]:
    """Listen at `address`, and answer each request. See `adapters.ports.listener.listening`.

    A request has `longest` seconds and `largest` bytes of body, at most; `refused` is told of what is none.
    """
    return listening(
        address,
        lambda way: _Exchange(way, answering, refused, largest).take,
        refused,
        most=most,
        idle=longest,
        longest=longest,
    )


class _Exchange:
    """One request and its answer."""

    def __init__(self, way: Way, answering: Answering, refused: Callable[[str], None], largest: int) -> None:
        self._way = way
        self._answering = answering
        self._refused = refused
        self._largest = largest
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD)
        self._request: Any = None
        self._body = bytearray()
        self._over = False

    def take(self, chunk: bytes) -> Awaitable[None] | None:
        """Take in what came, and answer once it is a whole request."""
        if self._over:
            return None
        try:
            self._connection.receive_data(chunk)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    self._go_on()
                    return None
                if isinstance(event, h11.Request):
                    self._request = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > self._largest:
                        self._refuse(413, f"the body has more than {self._largest} bytes")
                        return None
                elif isinstance(event, h11.EndOfMessage):
                    return self._answer()
                else:  # the other side is gone
                    self._over = True
                    self._way.close()
                    return None
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, "this is no request over HTTP")
            return None

    def _go_on(self) -> None:
        if self._connection.they_are_waiting_for_100_continue:
            self._way.write(self._connection.send(h11.InformationalResponse(status_code=100, headers=[])))

    def _answer(self) -> Awaitable[None] | None:
        target, _, query = self._request.target.decode("latin-1").partition("?")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._request.headers}
        answer = self._answering(
            Request(self._request.method.decode("latin-1"), target, query, headers, bytes(self._body))
        )
        self._over = True
        if answer.after is None:
            self._say(answer)
            return None
        waiting = asyncio.ensure_future(answer.after)
        waiting.add_done_callback(lambda _: self._say(answer))
        return waiting

    def _refuse(self, status: int, why: str) -> None:
        self._over = True
        self._refused(why)
        self._say(Answer(status, why))

    def _say(self, answer: Answer) -> None:
        connection = self._connection
        if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{answer.text}\n".encode()
            headers = [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(text))),
                ("Connection", "close"),
                *answer.headers,
            ]
            data = connection.send(h11.Response(status_code=answer.status, headers=headers))
            if self._request is None or self._request.method != b"HEAD":
                data += connection.send(h11.Data(data=text))
            self._way.write(data + connection.send(h11.EndOfMessage()))
        self._way.close()
