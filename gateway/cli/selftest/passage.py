"""A TCP proxy in front of one broker, which can be bad in many ways, and which is the witness of what was acknowledged.

Who says that a reading was delivered? Not the broker's subscribers alone: a broker that is killed after its PUBACK, and
before it has passed the message on, takes it along, and the gateway could do nothing about it. So the witness is the
line between the two: a reading is delivered when a broker's PUBACK for it has come by here. What a broker that was not
killed has acknowledged must have come out at the receiver, too, and the account checks that; only what a broker has
acknowledged and then took with it when it was killed is known from here alone. What a broker has acknowledged and the
gateway never heard (the link was cut before) is delivered as well: sent again, it is a duplicate.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from gateway.mqtt.codec import decode
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import Connect, Puback, Publish

CHUNK = 1 << 16
BIGGEST = 1 << 26  # bytes of a packet
REFUSED = 0x80  # PUBACKs from this reason on are refusals (MQTT 5.0, section 3.4.2.1)

Said = tuple[str, bytes]
"""Topic and payload of a message."""


class Witness:
    """Reads along on one connection of a publisher: which messages has the broker acknowledged at QoS 1?"""

    def __init__(self, acknowledged: set[Said]) -> None:
        """`acknowledged`: what is added to."""
        self._acknowledged = acknowledged
        self._up, self._down = Framer(BIGGEST), Framer(BIGGEST)
        self._level = 4
        self._sent: dict[int, Said] = {}

    def up(self, data: bytes) -> None:
        """Take what has gone to the broker."""
        for first, body in self._up.feed(data):
            packet = decode(first, body, self._level)
            if isinstance(packet, Connect):
                self._level = packet.level
            elif isinstance(packet, Publish) and packet.qos:
                self._sent[packet.packet_id] = (packet.topic, packet.payload)

    def down(self, data: bytes) -> None:
        """Take what has come from the broker."""
        for first, body in self._down.feed(data):
            packet = decode(first, body, self._level)
            if isinstance(packet, Puback):
                said = self._sent.pop(packet.packet_id, None)
                if said is not None and packet.reason < REFUSED:
                    self._acknowledged.add(said)


class Passage:
    """The way to one broker: `port` leads to `target` on 127.0.0.1. Its knobs may be turned while it runs.

    Use as `async with`. `open` is for whoever knows whether the broker, and its receiver, are there.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.acknowledged: set[Said] = set()
        """By the broker that is there now: to be replaced with each one that begins."""
        # Knobs.
        self.open = False
        self.refuse = False  # whoever comes is hung up on
        self.swallow: frozenset[str] = frozenset()  # "up", "down": what goes this way vanishes
        self.rate = 0.0  # bytes a second, each way; 0: as fast as can be
        self._cut: tuple[str, int] | None = None
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ended(self) -> None:
        """Return when all connections have ended that there are now."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, way: str, after: int) -> None:
        """Reset the connection `after` so many bytes of the next chunk that goes this way ("up" or "down")."""
        self._cut = (way, after)

    def heal(self) -> None:
        """Be good again. Connections that something was taken from are reset, as nothing good can come of them."""
        if self.swallow:
            self.drop()
        self.refuse, self.swallow, self.rate, self._cut = False, frozenset(), 0.0, None

    def drop(self) -> None:
        """Reset all connections."""
        for writer in self._links:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self.refuse or not self.open:
            writer.transport.abort()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        witness = Witness(self.acknowledged)
        # A cancelled task of a stream server would be logged as an error by asyncio.
        with suppress(OSError, asyncio.CancelledError):
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
            ends = {writer, forth}
            self._links |= ends
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry("up", reader, forth, witness, ends))
                    group.create_task(self._carry("down", back, writer, witness, ends))
            finally:
                self._links -= ends
                for end in ends:
                    end.transport.abort()
        writer.transport.abort()

    async def _carry(
        self,
        way: str,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        witness: Witness,
        ends: set[asyncio.StreamWriter],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(self._size()):
                # An acknowledgement counts from here on, also if it goes no further.
                if way == "down":
                    witness.down(data)
                if way in self.swallow:
                    continue
                if self._cut is not None and self._cut[0] == way:
                    data, self._cut = data[: self._cut[1]], None
                    sink.write(data)
                    await asyncio.sleep(0)
                    break
                if way == "up":
                    witness.up(data)
                sink.write(data)
                await sink.drain()
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)
        for end in ends:
            end.transport.abort()

    def _size(self) -> int:
        """Return how many bytes are carried at once."""
        return max(1, int(self.rate / 20)) if self.rate else CHUNK
