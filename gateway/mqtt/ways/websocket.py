"""MQTT in a WebSocket (RFC 6455; MQTT 5, section 6.0): its bytes in binary frames, by the protocol of `websockets`."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from typing import Any, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.typing import Subprotocol

from gateway.mqtt.errors import ConnectError, Kind
from gateway.mqtt.tls import failure_in_words
from gateway.mqtt.ways.upgrade import Request, printable, refusal_in_words

_WHOLE_BINARY = 0x82  # the first byte of a binary frame that is a whole message
_MASKED = 128  # in the second byte of a header; only a client may
_EXTENDED = {126: 2, 127: 8}  # lengths that mean: the real one follows, in so many bytes
_UNSUPPORTED_DATA = 1003  # close code: data of a kind that is not taken

_LARGEST_HEAD = 64 * 1024  # bytes of an HTTP answer without its body
# Larger writes are cut: more than this in one frame is refused by servers built on Netty, unless told otherwise.
_LARGEST_FRAME = 64 * 1024
_CLOSED = "the broker closed the connection instead of opening a WebSocket; is it the port for one, and the path right?"

# The library would log headers and payloads at debug.
_SILENT = logging.getLogger(__name__)
_SILENT.setLevel(logging.CRITICAL + 1)


class WebSocket(asyncio.Protocol, asyncio.Transport):
    """The layer between a transport below, which carries frames, and a protocol above, which knows only MQTT.

    Frames are cut here, at a fraction of what it costs in the library; whatever is not a whole binary message goes
    through the library, which knows the rules.
    """

    def __init__(self, above: asyncio.Protocol, request: Request) -> None:
        super().__init__()
        self._above = above
        self._request = request
        self._below: asyncio.Transport | None = None
        self._rules = ClientProtocol(
            request.uri,
            subprotocols=[Subprotocol(name) for name in request.subprotocols],
            max_size=request.largest,
            logger=_SILENT,
        )
        self._rest = bytearray()  # the beginning of an answer or of a frame
        self._refused = False  # what comes now is the body of a refusal
        self._in_fragments = False  # between the first and the last frame of a message
        self._up = False  # the protocol above has us as its transport
        self._full = False  # the broker reads more slowly than we write
        self._end: OSError | None = None  # why it ends, where the transport below does not know
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()

    async def opened(self) -> None:
        """Wait until the server has agreed. Raises ConnectError."""
        await self._answer

    async def dropped(self) -> None:
        """Drop the socket, and wait until it is closed."""
        if not self._answer.cancel() and not self._answer.cancelled():
            self._answer.exception()  # whoever waited for it has been told something else
        self.abort()
        if self._below is not None:
            await asyncio.wait([self._gone])

    # -- what the transport below calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        self._below = cast("asyncio.Transport", transport)
        request = self._rules.connect()
        for name, value in self._request.headers:
            if name in request.headers:
                del request.headers[name]
            request.headers[name] = value
        self._rules.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take the answer, and then frames."""
        if self._end is not None:
            return
        if not self._up:
            data = self._listen(data)
        if data and self._up:
            parts = self._cut(data)
            if parts:
                self._above.data_received(b"".join(parts))
            if self._end is not None:
                self._transport.close()

    def eof_received(self) -> None:
        """Take a refusal whose body ends with the connection; after anything else, the connection is lost."""
        if self._refused and not self._answer.done():
            self._rules.receive_eof()
            self._judge()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol above, or whoever waits for the answer."""
        if not self._answer.done():
            tls = isinstance(exc, ssl.SSLError)
            kind: Kind = "tls" if tls else "websocket"
            self._answer.set_exception(ConnectError(failure_in_words(exc) if exc and tls else _CLOSED, kind=kind))
        self._gone.set_result(None)
        if self._up:
            self._above.connection_lost(self._end or exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._full = True
        if self._up:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._full = False
        if self._up:
            self._above.resume_writing()

    # -- the answer

    def _listen(self, data: bytes) -> bytes:
        """Take the answer to the request, and return what came after it."""
        if self._refused:
            self._rules.receive_data(data)
            self._judge()
            return b""
        self._rest += data
        head, end, rest = bytes(self._rest).partition(b"\r\n\r\n")
        if not end:
            if len(head) > _LARGEST_HEAD or not b"HTTP/".startswith(head[:5]):
                self._refuse("no WebSocket is spoken there, nor HTTP; is it another port?")
            return b""
        self._rest.clear()
        self._rules.receive_data(head + end)
        if self._rules.state is not OPEN:
            self._refused = True
            if rest:
                self._rules.receive_data(rest)
            rest = b""
        self._judge()
        return rest

    def _judge(self) -> None:
        self._rules.events_received()  # the answer; what matters of it is in the state
        if self._rules.handshake_exc is not None:
            self._refuse(refusal_in_words(self._rules.handshake_exc, self._request))
        elif self._rules.state is OPEN:
            if self._rules.subprotocol is None:
                self._refuse(f"the server opens a WebSocket, but not for MQTT, at the path {self._request.uri.path}")
            elif not self._answer.done():
                self._up = True
                self._answer.set_result(None)
                self._above.connection_made(self)

    def _refuse(self, words: str) -> None:
        self._end = OSError(errno.ECONNABORTED, words)
        if not self._answer.done():
            self._answer.set_exception(ConnectError(words, kind="websocket"))
        self.abort()

    # -- frames (RFC 6455, section 5.2)

    def _cut(self, data: bytes) -> list[memoryview | bytes]:
        """Return the payloads of the frames that are complete, and keep what is not."""
        held: bytes | bytearray = data
        if self._rest:
            self._rest += data
            held, self._rest = self._rest, bytearray()
        parts: list[memoryview | bytes] = []
        view = memoryview(held)
        at, end = 0, len(held)
        while end - at >= 2:
            length, start = held[at + 1], at + 2
            if length in _EXTENDED:
                start += _EXTENDED[length]
                if start > end:
                    break
                length = int.from_bytes(view[at + 2 : start], "big")
            elif length >= _MASKED:
                self._by_the_rules(bytes(view[at:]), parts)
                return parts
            if length > self._request.largest:
                self._by_the_rules(bytes(view[at:start]), parts)
                return parts
            stop = start + length
            if stop > end:
                break
            if held[at] == _WHOLE_BINARY and not self._in_fragments:
                parts.append(view[start:stop])
            else:
                self._by_the_rules(bytes(view[at:stop]), parts)
                if self._end is not None:
                    return parts
            at = stop
        if at == 0 and isinstance(held, bytearray):
            view.release()
            self._rest = held
        elif at < end:
            self._rest = bytearray(view[at:])
        return parts

    def _by_the_rules(self, frame: bytes, parts: list[memoryview | bytes]) -> None:
        """Have the library judge a frame, answer it, and put the payload of a fragment to the others."""
        rules = self._rules
        rules.receive_data(frame)
        for event in rules.events_received():
            assert isinstance(event, Frame)  # noqa: S101 - the answer was the only other event
            if event.opcode in (Opcode.BINARY, Opcode.CONT):
                self._in_fragments = not event.fin
                parts.append(bytes(event.data))
            elif event.opcode is Opcode.TEXT:
                self._broken("a text frame came, and MQTT travels in binary ones")
                rules.fail(_UNSUPPORTED_DATA, "MQTT travels in binary frames")
            elif event.opcode is Opcode.CLOSE and rules.close_rcvd is not None:
                words = f"the broker closed the WebSocket: {printable(str(rules.close_rcvd))}"
                self._end = OSError(errno.ECONNABORTED, words)
        if rules.parser_exc is not None:
            self._broken(printable(str(rules.parser_exc)))
        self._flush()
        if self._full:
            # It sends, but does not read our answers: take no more until it does, so that they do not pile up.
            self._transport.pause_reading()

    def _broken(self, words: str) -> None:
        self._end = OSError(errno.ECONNABORTED, f"the broker broke the protocol of WebSockets: {words}")

    def _flush(self) -> None:
        for data in self._rules.data_to_send():
            if data:  # empty: the end of what is sent, which closing says as well
                self._transport.write(data)

    # -- what the protocol above calls

    @property
    def _transport(self) -> asyncio.Transport:
        assert self._below is not None  # noqa: S101 - nobody has us before there is one
        return self._below

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send this as one frame, or several when it is long. After the end, nothing is sent."""
        if self._rules.state is not OPEN:
            return
        for at in range(0, len(data), _LARGEST_FRAME):
            self._rules.send_binary(bytes(data[at : at + _LARGEST_FRAME]))  # of all of it: no copy
        self._flush()

    def pause_reading(self) -> None:
        """Pass it on."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Pass it on."""
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        """Ask the transport below."""
        return self._transport.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pass it on."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Ask the transport below."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Ask the transport below; "subprotocol" is our own."""
        if name == "subprotocol":
            return self._rules.subprotocol
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Ask the transport below."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what is buffered, say goodbye, and close."""
        if self._rules.state is OPEN:
            self._rules.send_close()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop the socket at once."""
        if self._below is not None:
            self._below.abort()
