"""Mutated packets against the codec and the session: `python -m tests.mqtt.fuzz [packets] [seed]`.

Nothing but a ProtocolError may come of them, and no memory may stay behind.
"""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter

from gateway.mqtt import Options, ProtocolError
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import Connack, Publish
from gateway.mqtt.properties import Properties
from gateway.mqtt.session import Session
from tests.mqtt.golden import GOLDEN

ROUND = 1000  # packets of one seed of their own, so that a failure can be had again alone
LARGEST = 4096  # bytes of a packet that the session takes
GROWTH = 5_000  # blocks of memory that may stay, whatever the number of packets
SEEDS = [(level, bytes.fromhex(wire)) for level, _, wire in GOLDEN]
# What a broker says, in both directions of which most of the session is made.
SEEDS += [
    (level, encode(packet, level))
    for level in (4, 5)
    for packet in (
        Publish("t", b"x" * 40, 1, packet_id=3),
        Publish("t", b"y", 2, packet_id=4),
        Publish("t", b"z"),
    )
]
SEEDS += [
    (5, encode(Publish(topic, b"x", properties=Properties(topic_alias=2, content_type="c")), 5)) for topic in ("a", "")
]


def run(count: int, seed: int) -> Counter[str]:
    """Try so many packets, half of them with each; return what became of them. Raises AssertionError."""
    outcomes: Counter[str] = Counter()
    early = 0
    for number in range(0, count, ROUND):
        if number == min(10 * ROUND, count // 2 // ROUND * ROUND):
            early = _blocks()
        dice = random.Random(f"{seed}/{number}")
        try:
            _codec(dice, outcomes)
            _session(dice, outcomes)
        except BaseException:
            print(f"seed {seed}, packets from {number}")
            raise
    kept = _blocks() - early
    assert kept < GROWTH, f"{kept} blocks of memory stay behind"
    return outcomes


def _blocks() -> int:
    gc.collect()  # an error and the events that it ends refer to each other
    return sys.getallocatedblocks()


def _codec(dice: random.Random, outcomes: Counter[str]) -> None:
    for _ in range(ROUND // 2):
        level, seed = dice.choice(SEEDS)
        data, level = mutated(dice, seed), dice.choice((level, 4, 5))
        framer = Framer(1 << 16, level)
        try:
            found = [decode(first, body, level) for first, body in framer.feed(data)]
        except ProtocolError:
            outcomes["refused"] += 1
        else:
            assert framer.kept <= len(data), data.hex()
            outcomes["packet" if found else "incomplete"] += 1


def _session(dice: random.Random, outcomes: Counter[str]) -> None:
    session: Session | None = None
    for _ in range(ROUND - ROUND // 2):
        if session is None:
            session = _greeted(dice)
        _, seed = dice.choice(SEEDS)
        data = mutated(dice, seed) if dice.random() < 0.6 else seed
        cut = dice.randrange(len(data) + 1)
        flying = len(session.in_flight)
        events = session.receive(data[:cut]) + session.receive(data[cut:])
        replies = session.replies()
        assert len(session.in_flight) <= flying, data.hex()
        assert len(replies) <= 5 * len(data), data.hex()
        assert session._framer.kept <= LARGEST, data.hex()
        assert len(session.receiving.received) <= 0xFFFF
        list(Framer(1 << 20, session.level).feed(replies))
        broken = bool(events) and isinstance(events[-1], ProtocolError)
        outcomes["broken" if broken else "told" if events else "silent"] += 1
        if broken or session._framer.kept:
            session = None  # whatever came next would be the rest of a packet


def _greeted(dice: random.Random) -> Session:
    """Return a session in the middle of its work."""
    level = dice.choice((3, 4, 5, 5))
    options = Options(
        "me", maximum_packet_size=LARGEST, receive_maximum=20, topic_alias_maximum=5, hold_received=dice.random() < 0.3
    )
    session = Session(options, level, remembers=dice.random() < 0.5)
    session.connect()
    session.receive(encode(Connack(), level))
    session.publish([(b"t", b"", n) for n in range(1, 4)], 1, False, 0.0)
    session.publish([(b"t", b"", n) for n in range(11, 14)], 2, False, 0.0)
    session.subscribe([("a", 1)])
    session.unsubscribe(["a"])
    return session


def mutated(dice: random.Random, seed: bytes) -> bytes:
    """Return a packet with one to three faults."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data)) if data else 0
        match dice.randrange(5):
            case 0 if data:
                data[at] ^= 1 << dice.randrange(8)
            case 1 if data:
                data[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                data.insert(at, dice.randrange(256))
            case 3 if data:
                del data[at]
            case _:
                other = dice.choice(SEEDS)[1]
                data[at:at] = other[: dice.randrange(len(other))]
    if dice.random() < 0.5 and 2 <= len(data) < 130:
        data[1] = len(data) - 2  # so that the mutation is reached and not only the length
    return bytes(data)


def main(count: int = 1_000_000, seed: int | None = None) -> None:
    """Try so many packets, and say what became of them."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"{count} packets, seed {seed}", flush=True)
    outcomes = run(count, seed)
    print(", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
