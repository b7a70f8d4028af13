"""One live link with a broker: the session's bytes over a transport, with the deadlines of both sides."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from math import inf

from gateway.mqtt.doze import Doze
from gateway.mqtt.errors import ConnectError, ConnectionLost, ConnectRefused, Kind, ProtocolError
from gateway.mqtt.listener import Listener, Message
from gateway.mqtt.options import NAMES, Limits, Options
from gateway.mqtt.packets import Connack, Disconnect, Pingresp, Suback
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import connack_in_words, in_words
from gateway.mqtt.session import PINGREQ, Acknowledged, Batch, Event, Refused, Session
from gateway.mqtt.tls import failure_in_words
from gateway.mqtt.watch import Watch

# So much may wait in this process for the broker to read before the link counts as paused; well above a usual window.
_MOST_BUFFERED = 256 * 1024
_RESUME_BELOW = 192 * 1024


class Connection(asyncio.Protocol):
    """A link with a broker, made by `connect`. It belongs to the loop in which it was made."""

    def __init__(self, options: Options, level: int, listener: Listener) -> None:
        self.protocol = NAMES[level]  # what was agreed: "3.1", "3.1.1" or "5"
        self.session_present = False  # the broker has kept the session of this client id
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._listener = listener
        self._session = Session(options, level)
        self._hello = self._session.connect()
        self._in_flight = self._session.in_flight
        self._patience = options.ack_timeout + self._in_flight.grain
        self._watch = Watch(options, self._in_flight.grain, self._loop.time())
        self._transport: asyncio.Transport | None = None
        self._window = 0  # messages that may be in flight; 0 unless open and not paused
        self._open = False  # from the CONNACK until it is lost or closed by us
        self._silent = True  # the listener is told nothing: before `connect` has returned, and after the end
        self._doze = Doze(options.ack_lag)
        self._early: list[Event] = []  # what came with the CONNACK
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf  # when the timer goes off
        self._written: list[int] = []  # tokens of QoS 0 messages to report
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._pong: asyncio.Future[None] | None = None
        self._empty: asyncio.Future[None] | None = None
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()

    # -- what the owner of the link uses

    @property
    def limits(self) -> Limits:
        """Return what the broker allows."""
        return self._session.limits

    @property
    def room(self) -> int:
        """Return how many QoS 1 messages may be sent now; 0 while the broker does not read, and after the end."""
        return max(0, self._window - len(self._in_flight))

    @property
    def in_flight(self) -> list[int]:
        """Return the unacknowledged tokens in order of sending; still right after the link is gone."""
        return self._in_flight.tokens

    def publish(self, batch: Batch, qos: int = 1, retain: bool = False) -> None:
        """Send messages (topic in UTF-8, payload, token) in one write; never more than there is `room` for.

        A token of -1 takes room but is reported to nobody. Tokens of QoS 0 are reported as acknowledged right after
        this call. Raises ConnectionLost when the link is gone and ValueError for what MQTT cannot carry; nothing is
        sent then.
        """
        transport = self._transport
        if not self._open or transport is None:
            raise ConnectionLost("the link is closed")
        now = self._loop.time()
        transport.write(self._session.publish(batch, qos, retain, now))
        self._watch.sent = now
        if qos:
            if self._empty is None and self._pong is None and not self._answers:
                self._doze.sent(len(self._in_flight))
            if now + self._patience < self._due:
                self._arm(now + self._patience)
        else:
            if not self._written:
                self._loop.call_soon(self._report_written)
            self._written += [token for _, _, token in batch if token >= 0]

    def fits(self, topic: bytes, payload: bytes) -> bool:
        """Return whether the broker takes a message of this size."""
        return self._session.fits(topic, payload)

    async def subscribe(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Subscribe to (filter, QoS 0 or 1) and return, for each, the QoS granted, or why not (0x80 and above).

        Raises ConnectionLost; a broker that does not answer within `ack_timeout` loses the link. Raises ValueError for
        a filter that MQTT cannot carry.
        """
        self._raise_if_closed()
        self._doze.end()
        identifier, data = self._session.subscribe(filters)
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._answers[identifier] = answer
        self._write(data)
        try:
            async with asyncio.timeout(self._options.ack_timeout):
                return await answer
        except TimeoutError:
            error = ConnectionLost(f"no answer to SUBSCRIBE for {self._options.ack_timeout:.1f} s")
            self._loop.call_soon(self._lose, error)
            raise error from None
        finally:
            del self._answers[identifier]

    async def ping(self) -> None:
        """Send PINGREQ and wait for the answer. Raises ConnectionLost when the link is gone, or goes."""
        self._raise_if_closed()
        self._doze.end()
        if self._pong is None:
            self._pong = self._loop.create_future()
        pong = self._pong
        self._send_ping()
        await asyncio.shield(pong)

    async def drained(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until nothing is in flight, and return whether that is so."""
        if len(self._in_flight) and self._open:
            if self._empty is None:
                self._empty = self._loop.create_future()
            self._doze.end()
            await asyncio.wait([self._empty], timeout=timeout)
        return not len(self._in_flight)

    async def close(self, timeout: float = 1.0) -> None:
        """Say DISCONNECT, wait until the broker has closed, and drop the socket after `timeout` seconds at the latest.

        The will is not published, and `lost` is not called. Acknowledgements that still come are reported until this
        returns.
        """
        transport = self._transport
        self._doze.end()
        if self._open:
            # The broker closes when it has read this. Closing first, with acknowledgements unread, would reset the
            # connection and could destroy the DISCONNECT on its way.
            self._write(self._session.disconnect())
            self._shut(ConnectionLost("closed by this side"))
        try:
            if transport is not None:
                await asyncio.wait([self._gone], timeout=timeout)
        finally:
            self.abort()
        if transport is not None:
            await asyncio.wait([self._gone])  # the loop closes the socket in its next round

    def abort(self) -> None:
        """Drop the socket at once, without DISCONNECT, so that the broker publishes the will. `lost` is not called."""
        self._silent = True
        self._welcome.cancel()
        self._shut(ConnectionLost("closed by this side"))
        if self._transport is not None:
            self._transport.abort()

    # -- what `connect` uses

    async def welcomed(self) -> None:
        """Wait for the CONNACK. Raises ConnectError."""
        await self._welcome
        if not self._open:
            raise ConnectError("the broker closed the connection right after its answer to CONNECT", kind="closed")
        # From here the owner has the link in hand without another round of the loop.
        self._silent = False
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        early, self._early = self._early, []
        self._handle(early)
        if self._transport is not None and not self._doze.active:
            self._transport.resume_reading()  # when closed by now as well: it waits for the broker's end

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say CONNECT."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - every transport of ours reads and writes
        self._transport = transport
        transport.set_write_buffer_limits(high=_MOST_BUFFERED, low=_RESUME_BELOW)
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Take what the broker sent."""
        self._watch.heard = True
        self._handle(self._session.receive(data))

    def pause_writing(self) -> None:
        """Give no more room: the broker does not read."""
        self._window = 0
        now = self._watch.paused = self._loop.time()
        if self._open:
            self._arm(now + self._options.ack_timeout)

    def resume_writing(self) -> None:
        """Give room again."""
        self._watch.paused = None
        if self._open and self._transport is not None:
            self._window = self._session.window
            if not self._doze.active:
                self._transport.resume_reading()
            self._loop.call_soon(self._tell_writable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the link is gone, unless we closed it."""
        why = _in_words(exc)
        if not self._welcome.done():
            kind: Kind = "tls" if isinstance(exc, ssl.SSLError) else "closed"
            self._welcome.set_exception(ConnectError(f"{why}, without an answer to CONNECT", kind=kind))
        self._lose(ConnectionLost(why))
        self._gone.set_result(None)

    # -- events

    def _handle(self, events: list[Event]) -> None:
        for position, event in enumerate(events):
            match event:
                case Acknowledged():
                    if not self._silent:
                        self._listener.acknowledged(event.tokens)
                case Message():
                    if not self._silent:
                        self._listener.received(event)
                case Refused():
                    if not self._silent:
                        self._listener.refused(event.token, event.reason)
                case Connack():
                    self._answered(event)
                    self._early = events[position + 1 :]
                    return
                case Suback():
                    answer = self._answers.get(event.packet_id)
                    if answer is not None and not answer.done():
                        answer.set_result(list(event.reasons))
                case Pingresp():
                    self._watch.pinged = None
                    if self._watch.keep_alive:
                        self._arm(self._watch.sent + self._watch.keep_alive)
                    if self._pong is not None:
                        self._pong.set_result(None)
                        self._pong = None
                case Disconnect():
                    self._lose(_ended(event))
                case ProtocolError():
                    self._broken(event)
        if self._open:
            self._reply()
        if self._empty is not None and not len(self._in_flight):
            self._empty.set_result(None)
            self._empty = None

    def _answered(self, connack: Connack) -> None:
        """Open the link, or say why not."""
        if self._welcome.done() or self._transport is None:
            return
        level = self._session.level
        if connack.reason:
            words = connack_in_words(connack.reason, level) + _quoted(connack.properties)
            self._welcome.set_exception(
                ConnectRefused(f"refused by the broker: {words}", reason=connack.reason, level=level)
            )
            return
        self.session_present = connack.session_present
        self._open = True
        self._window = self._session.window
        self._doze.open(self._transport, self._window)
        self._watch.keep_alive = self._session.limits.keep_alive
        self._transport.pause_reading()  # until the owner can be told what comes
        self._look()
        self._welcome.set_result(None)

    def _broken(self, error: ProtocolError) -> None:
        """Answer a breach of the protocol, in MQTT 5 with its code, and leave."""
        if not self._welcome.done():
            self._welcome.set_exception(ConnectError(f"the answer to CONNECT is not MQTT: {error}", kind="protocol"))
        if self._open and self._session.level >= 5:
            self._write(self._session.disconnect(error.reason))
        lost = ConnectionLost(f"the broker broke the protocol: {error}")
        lost.__cause__ = error
        self._lose(lost)

    def _reply(self) -> None:
        data = self._session.replies()
        if data and self._transport is not None:
            self._transport.write(data)
            if self._watch.paused is not None:
                # It sends, but does not read our answers: take no more until it does, so that they do not pile up.
                self._transport.pause_reading()

    def _report_written(self) -> None:
        tokens, self._written = self._written, []
        if tokens and not self._silent:
            self._listener.acknowledged(tokens)

    def _tell_writable(self) -> None:
        if self._window and not self._silent:
            self._listener.writable()

    # -- the end, and the deadlines before it

    def _lose(self, error: ConnectionLost) -> None:
        transport = self._transport
        if not self._open or transport is None:
            return
        self._shut(error)
        transport.abort()
        if not self._silent:
            self._silent = True
            self._listener.lost(error)

    def _shut(self, error: ConnectionLost) -> None:
        """Give no more room, stop the timer, and wake whoever waits for an answer."""
        self._open = False
        self._window = 0
        self._doze.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        if self._pong is not None:
            self._pong.set_exception(error)
            self._pong.exception()  # it is no mistake when nobody waits any more
            self._pong = None
        if self._empty is not None:
            self._empty.set_result(None)
            self._empty = None

    def _raise_if_closed(self) -> None:
        if not self._open:
            raise ConnectionLost("the link is closed")

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            self._watch.sent = self._loop.time()

    def _send_ping(self) -> None:
        if self._watch.pinged is None:
            self._write(PINGREQ)
            now = self._watch.pinged = self._loop.time()
            self._arm(now + self._options.ack_timeout)

    def _arm(self, when: float) -> None:
        """Have a look at `when`, or before. An earlier look arms the timer again, so sending does not have to."""
        if self._open and when < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = when
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer, self._due = None, inf
        verdict = self._watch.look(self._loop.time(), self._in_flight.oldest())
        if verdict.lost:
            self._lose(ConnectionLost(verdict.lost))
            return
        if verdict.ping:
            self._send_ping()
        if verdict.due < inf:
            self._arm(verdict.due)


def _in_words(exc: Exception | None) -> str:
    if exc is None:
        return "the broker closed the connection"
    if isinstance(exc, ssl.SSLError):
        return failure_in_words(exc)
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror[0].lower() + exc.strerror[1:]
    return f"{type(exc).__name__}: {exc}"


def _ended(packet: Disconnect) -> ConnectionLost:
    words = f"the broker ended the session: {in_words(packet.reason)}{_quoted(packet.properties)}"
    return ConnectionLost(words, reason=packet.reason)


def _quoted(properties: Properties) -> str:
    """Return what the broker says in its own words, made fit for one line of a log."""
    said = properties.get("reason_string", "")[:200]
    return f": {''.join(character if character.isprintable() else ' ' for character in said)}" if said else ""
