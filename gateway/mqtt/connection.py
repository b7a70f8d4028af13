"""One live link with a broker: the session's bytes over a transport, with the deadlines of both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from gateway.mqtt.asking import AUTH, Asking
from gateway.mqtt.endings import dropped, ended
from gateway.mqtt.errors import ConnectError, ConnectionLost, ProtocolError
from gateway.mqtt.events import Acknowledged, Answered, Event, Forgotten, Recorded, Refused
from gateway.mqtt.line import Line
from gateway.mqtt.listener import Forgetter, Listener, Message
from gateway.mqtt.options import NAMES, Limits, Options
from gateway.mqtt.packets import Auth, Connack, Disconnect, Pingresp
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import UNSPECIFIED
from gateway.mqtt.session import CONTINUE, Batch, Session, Wanted
from gateway.mqtt.welcome import Welcome


class Connection(asyncio.Protocol):
    """A link with a broker, made by `connect`. It belongs to the loop in which it was made."""

    def __init__(self, options: Options, level: int, listener: Listener, received: set[int] | None = None) -> None:
        self.protocol = NAMES[level]  # what was agreed: "3.1", "3.1.1" or "5"
        self.session_present = False  # the broker has kept the session of this client id
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._listener = listener
        self._forgetter = listener if isinstance(listener, Forgetter) else None
        self._session = Session(options, level, received, remembers=self._forgetter is not None)
        self._hello = self._session.connect()
        self._in_flight = self._session.in_flight
        self._line = Line(options, level, self._in_flight.grain, self._in_flight.oldest, self._lose)
        self._window = 0  # messages that may be in flight; 0 unless open and not paused
        self._open = False  # from the CONNACK until it is lost or closed by us
        self._begun = False  # the owner has the link in hand
        self._silent = True  # the listener is told nothing: before `connect` has returned, and after the end
        self._early: list[Event] = []  # what came with the CONNACK
        self._written: list[int] = []  # tokens of QoS 0 messages to report
        self._asking = Asking(self._line)
        self._welcome = Welcome(level)
        self._gone: asyncio.Future[None] = self._loop.create_future()

    # -- what the owner of the link uses

    @property
    def limits(self) -> Limits:
        """Return what the broker allows."""
        return self._session.limits

    @property
    def transport(self) -> asyncio.Transport | None:
        """Return what the bytes go over, for what it knows of the other side."""
        return self._line.transport

    @property
    def room(self) -> int:
        """Return how many messages of QoS 1 and 2 may be sent now; 0 while the broker does not read, and at the end."""
        return max(0, self._window - len(self._in_flight))

    @property
    def in_flight(self) -> list[int]:
        """Return the tokens without an end, in order of sending in each phase; still right after the link is gone."""
        return self._in_flight.tokens

    @property
    def released(self) -> list[int]:
        """Return those in flight of which `release` or `resume` was asked; still right after the link is gone."""
        return self._in_flight.completing.tokens

    @property
    def received_ids(self) -> set[int]:
        """Return the identifiers of the QoS 2 messages that were told and that the broker may send again."""
        return self._session.receiving.received

    @property
    def downgraded(self) -> bool:
        """Return whether the broker answers QoS 2 as if it were QoS 1."""
        return self._in_flight.downgraded

    def publish(
        self,
        batch: Batch,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
        dup: bool = False,
    ) -> None:
        """Send messages (topic in UTF-8, payload, token) in one write; never more than there is `room` for.

        A token of -1 takes room but is reported to nobody. Tokens of QoS 0 are reported as acknowledged right after
        this call. The properties are those of each message; before MQTT 5 they are not sent. `dup`: the broker may have
        seen them before. At QoS 2, on a session that goes on, messages must be `numbered`.

        Raises ConnectionLost when the link is gone and ValueError for what MQTT cannot carry, what the broker says it
        cannot take, and a numbered message that does not fit (see `fitting`); nothing is sent then.
        """
        self._raise_if_closed()
        now = self._line.send(self._session.publish(batch, qos, retain, self._loop.time(), properties, dup))
        if qos:
            if not self._asking:
                self._line.doze.sent(len(self._in_flight))
            self._line.owed(now)
        else:
            if not self._written:
                self._loop.call_soon(self._report_written)
            self._written += [token for _, _, token in batch if token >= 0]

    def fits(self, topic: bytes, payload: bytes, properties: Properties | None = None) -> bool:
        """Return whether the broker takes a message of this size. Raises ValueError for properties that are none."""
        return self._session.fits(topic, payload, properties)

    def accepts(self, token: int) -> bool:
        """Return whether the packet identifier of this token is free."""
        return self.fitting((token,)) == 1

    def fitting(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens, from the first on, can be sent together: their identifiers are free."""
        return self._in_flight.fitting(tokens)

    def release(self, tokens: Iterable[int]) -> None:
        """Let recorded QoS 2 messages go on to their end, which is told as `acknowledged`.

        Tokens that are not recorded are passed over. On a link that is gone it is only noted.
        """
        self._send_released(self._session.sending.release(tokens, self._loop.time()))

    def resume(self, tokens: Iterable[int]) -> None:
        """Let numbered messages go on that were released in an earlier connection of a session that goes on.

        To be called before anything is published; their end is told as `acknowledged`. Tokens that were resumed already
        are passed over. Raises ValueError if an identifier is in flight.
        """
        self._send_released(self._session.sending.resume(tokens, self._loop.time()))

    def _send_released(self, data: bytes) -> None:
        if data and self._open:
            self._line.doze.end()
            self._line.owed(self._line.send(data))

    def confirm(self, packet_ids: Iterable[int]) -> None:
        """With `hold_received`: answer these messages, or what was `forgotten`. Others are passed over."""
        data = self._session.receiving.confirm(packet_ids)
        if data and self._open:
            self._line.send(data)

    def hold(self, on: bool) -> None:
        """Read nothing more from the broker, until `hold(False)`. Deadlines wait meanwhile.

        What has been read already is still told.
        """
        if self._open:
            self._line.hold(on)

    async def subscribe(self, subscriptions: Sequence[Wanted], identifier: int | None = None) -> list[int]:
        """Subscribe, and return for each the QoS granted, or why not (0x80 and above).

        Raises ConnectionLost; a broker that does not answer within `ack_timeout` loses the link. Raises ValueError for
        a filter that MQTT cannot carry or that the broker says it has not, and asks nothing then.
        """
        self._raise_if_closed()
        return await self._asking.ask("SUBSCRIBE", *self._session.subscribe(subscriptions, identifier))

    async def unsubscribe(self, filters: Sequence[str]) -> list[int]:
        """Unsubscribe, and return the broker's reason for each filter. Raises as `subscribe` does."""
        self._raise_if_closed()
        return await self._asking.ask("UNSUBSCRIBE", *self._session.unsubscribe(filters))

    async def reauthenticate(self) -> None:
        """Go through the authentication again (MQTT 5). Raises ConnectionLost; a failure loses the link."""
        self._raise_if_closed()
        if self._options.authentication is None or AUTH in self._asking:
            raise ValueError("there is no authentication, or it is under way")
        await self._asking.ask("AUTH", AUTH, self._session.reauthenticate())

    async def ping(self) -> None:
        """Send PINGREQ and wait for the answer. Raises ConnectionLost when the link is gone, or goes."""
        self._raise_if_closed()
        await self._asking.ping()

    async def drained(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until nothing is in flight, and return whether that is so."""
        if len(self._in_flight) and self._open:
            await self._asking.until_empty(timeout)
        return not len(self._in_flight)

    async def close(self, timeout: float = 1.0, reason: int = 0, session_expiry: int | None = None) -> None:
        """Say DISCONNECT, wait until the broker has closed, and drop the socket after `timeout` seconds at the latest.

        The will is not published, unless `reason` is 4, and `lost` is not called. Acknowledgements that still come are
        reported until this returns; messages are not. Raises ValueError for a `session_expiry` (seconds, MQTT 5) that
        the broker could not take.
        """
        transport = self._line.transport
        if self._open and transport is not None:
            # The broker closes when it has read this. Closing first, with acknowledgements unread, would reset the
            # connection and could destroy the DISCONNECT on its way.
            goodbye = self._session.disconnect(reason, session_expiry)
            if goodbye:
                self._line.send(goodbye)
            else:
                transport.close()
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
        self._session.untold(self._early)
        self._welcome.cancel()
        self._shut(ConnectionLost("closed by this side"))
        if self._line.transport is not None:
            self._line.transport.abort()

    # -- what `connect` uses

    async def welcomed(self) -> None:
        """Wait for the CONNACK. Raises ConnectError."""
        await self._welcome.wait()
        if not self._open:
            raise ConnectError("the broker closed the connection right after its answer to CONNECT", kind="closed")
        # From here the owner has the link in hand without another round of the loop.
        self._silent = False
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        early, self._early = self._early, []
        self._begun = True
        self._handle(early)
        self._line.gate.open("early")

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say CONNECT."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - every transport of ours reads and writes
        self._line.attach(transport)
        self._line.send(self._hello)

    def data_received(self, data: bytes) -> None:
        """Take what the broker sent."""
        self._line.came(data)
        self._handle(self._session.receive(data, self._loop.time()))
        self._line.doze.came(len(data), len(self._in_flight))

    def pause_writing(self) -> None:
        """Give no more room: the broker does not read."""
        self._window = 0
        self._line.pause()

    def resume_writing(self) -> None:
        """Give room again."""
        self._line.resume()
        if self._open:
            self._window = self._session.window
            self._loop.call_soon(self._tell_writable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the link is gone, unless we closed it."""
        self._welcome.lost(exc)
        self._lose(dropped(exc))
        self._gone.set_result(None)

    # -- events

    def _handle(self, events: list[Event]) -> None:
        if self._open and not self._begun:
            self._early += events
            return
        listener = self._listener
        for position, event in enumerate(events):
            if self._silent and self._welcome.answered:
                self._session.untold(events[position:])
                break
            match event:
                case Message():
                    listener.received(event)
                case Acknowledged():
                    listener.acknowledged(event.tokens)
                case Recorded():
                    listener.recorded(event.tokens)
                case Refused():
                    listener.refused(*event)
                case Connack():
                    self._greeted(event)
                    self._handle(events[position + 1 :])
                    return
                case _:
                    self._take(event)
        if self._open:
            self._reply()
        if self._asking and not len(self._in_flight):
            self._asking.emptied()

    def _take(self, event: Event) -> None:
        match event:
            case Forgotten() if self._forgetter is not None:
                self._forgetter.forgotten(event.packet_id)
            case Answered():
                self._asking.answered(event.packet_id, event.reasons)
            case Pingresp():
                self._asking.ponged()
            case Auth():
                if self._trusted(event) and event.reason != CONTINUE:
                    self._asking.answered(AUTH, [])
            case Disconnect():
                self._lose(ended(event))
            case ProtocolError():
                self._broken(event)

    def _greeted(self, connack: Connack) -> None:
        """Open the link, or say why not."""
        if self._welcome.answered:
            return
        if connack.reason:
            self._welcome.refuse(connack)
            return
        if not self._trusted(connack):
            return
        self.session_present = connack.session_present
        self._open = True
        self._window = self._session.window
        self._line.gate.shut("early")  # until the owner can be told what comes
        self._line.open(self._window, self._session.limits.keep_alive)
        self._welcome.give()

    def _trusted(self, packet: Auth | Connack) -> bool:
        """Go on with the authentication, if there is one; return False when this side refuses the broker."""
        try:
            answer = self._session.authenticated(packet)
        except ValueError as error:
            words = f"the broker's side of the authentication is refused: {error}"
            self._welcome.distrust(words)
            self._leave(UNSPECIFIED, ConnectionLost(words))
            return False
        if answer:
            self._line.send(answer)
        return True

    def _broken(self, error: ProtocolError) -> None:
        """Answer a breach of the protocol, in MQTT 5 with its code, and leave."""
        self._welcome.broken(error)
        lost = ConnectionLost(f"the broker broke the protocol: {error}")
        lost.__cause__ = error
        self._leave(error.reason, lost)

    def _reply(self) -> None:
        data = self._session.replies()
        if data:
            self._line.send(data)
            if self._line.paused:
                # It sends, but does not read our answers: take no more until it does, so that they do not pile up.
                self._line.gate.shut("replies")

    def _report_written(self) -> None:
        tokens, self._written = self._written, []
        if tokens and not self._silent:
            self._listener.acknowledged(tokens)

    def _tell_writable(self) -> None:
        if self._window and not self._silent:
            self._listener.writable()

    # -- the end

    def _leave(self, reason: int, error: ConnectionLost) -> None:
        """Say why in MQTT 5, and lose the link; before, an orderly goodbye would take back the will."""
        if self._open and self._session.level >= 5:
            self._line.send(self._session.disconnect(reason))
        self._lose(error)

    def _lose(self, error: ConnectionLost) -> None:
        transport = self._line.transport
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
        self._line.shut()
        self._asking.fail(error)

    def _raise_if_closed(self) -> None:
        if not self._open:
            raise ConnectionLost("the link is closed")
