"""What one broker takes, and what becomes of a message or an option there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from re import Pattern
from typing import NamedTuple

from gateway.mqtt import Limits, Will

_NAMELESS = "generic"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a broker takes. The defaults are those of one without limits; None is no limit."""

    name: str = _NAMELESS

    # Of a message, and of a will too
    maximum_qos: int = 2
    retain: bool = True
    topic_size: int | None = None  # bytes of UTF-8
    topic_levels: int | None = None  # one more than it has slashes
    uncounted: Pattern[bytes] | None = None  # a beginning of topics that the two limits above do not count
    topic_form: Pattern[bytes] | None = None  # what all of a topic must match
    topic_words: str = ""  # the same, to continue "... takes"
    payload_size: int | None = None  # bytes
    packet_size: int | None = None  # bytes of the whole PUBLISH

    # Of a link
    will: bool = True
    keep_alive: tuple[float, float | None] = (0.0, None)  # seconds, from and to; with an end, there is no 0 for "none"
    window: int | None = None  # messages sent and not yet acknowledged
    messages_per_second: float | None = None
    bytes_per_second: float | None = None
    client_id: Pattern[bytes] | None = None  # what all of a client identifier must match, in UTF-8
    client_id_words: str = ""  # the same, to continue "... takes"
    username: bool = False  # whether there is none to connect without
    protocols: tuple[str, ...] = ("3.1", "3.1.1", "5")
    session_kept: bool = True  # whether it remembers, when asked to, a client that went away

    unlimited: bool = field(init=False, repr=False, default=True)  # whether every message passes as it is

    def __post_init__(self) -> None:
        limits = (self.topic_size, self.topic_levels, self.topic_form, self.payload_size, self.packet_size)
        unlimited = self.maximum_qos >= 2 and self.retain and all(limit is None for limit in limits)
        object.__setattr__(self, "unlimited", unlimited)

    @property
    def who(self) -> str:
        """The broker's name in a sentence."""
        return "this broker" if self.name == _NAMELESS else self.name


class Verdict(NamedTuple):
    """What becomes of a message at a broker. The two sentences are None for one that passes as it is."""

    qos: int  # to send it with
    retain: bool
    refused: str | None  # why the broker will never take it, with the limit
    downgraded: str | None  # what it is sent without


_AS_IT_IS = {(qos, retain): Verdict(qos, retain, None, None) for qos in range(3) for retain in (False, True)}


def effective(profile: Profile, limits: Limits | None) -> Profile:
    """Return a profile narrowed by what the broker said in CONNACK; the smaller wins.

    The keep-alive that a broker asks for is not in it: the engine has obeyed it already.
    """
    if limits is None:
        return profile
    narrowed = replace(
        profile,
        maximum_qos=min(profile.maximum_qos, limits.maximum_qos),
        retain=profile.retain and limits.retain_available,
        packet_size=_smaller(profile.packet_size, limits.maximum_packet_size),
        window=_smaller(profile.window, limits.receive_maximum if limits.receive_maximum < 0xFFFF else None),
    )
    return profile if narrowed == profile else narrowed


def judge(profile: Profile, topic: bytes, payload_size: int, qos: int, retain: bool) -> Verdict:
    """Return what becomes of a message with so many bytes of payload, and no MQTT 5 properties, at a broker."""
    if profile.unlimited:
        return _AS_IT_IS[qos, retain]
    taken = min(qos, profile.maximum_qos)
    kept = retain and profile.retain
    fault = _topic_fault(profile, topic) or _size_fault(profile, topic, payload_size, taken)
    if fault is not None:
        return Verdict(taken, kept, fault, None)
    if taken == qos and kept == retain:
        return _AS_IT_IS[qos, retain]
    changes = []
    if taken != qos:
        changes.append(f"QoS {qos} sent as QoS {taken}: {profile.who} has no QoS {qos}")
    if kept != retain:
        changes.append(f"retained message sent as any other: {profile.who} retains none")
    return Verdict(taken, kept, None, "; ".join(changes))


def fitted_will(profile: Profile, will: Will) -> tuple[Will | None, str | None]:
    """Return the will to arm at a broker, and what is different about it, in words, or None."""
    if not profile.will:
        return None, f"no will armed: {profile.who} takes none"
    verdict = _judged(profile, will)
    if verdict.refused is not None:
        return None, f"no will armed: {verdict.refused}"
    if verdict.downgraded is None:
        return will, None
    return replace(will, qos=verdict.qos, retain=verdict.retain), f"will: {verdict.downgraded}"


def check_options(
    profile: Profile,
    *,
    client_id: str | None = None,
    keep_alive: float | None = None,
    will: Will | None = None,
    window: int | None = None,
    protocol: str = "auto",
    username: str | None = None,
) -> list[str]:
    """Return what is wrong with the options of a link to a broker, each with its name and its bound.

    None stands for an option that nobody has chosen, and there is nothing wrong with that, except with no user name
    where there must be one. What `fitted_will` and `clamp` return is never at fault.
    """
    who = profile.who
    faults = []
    if client_id is not None and profile.client_id is not None and not profile.client_id.fullmatch(client_id.encode()):
        faults.append(f'client_id "{client_id}" is not what {who} takes: {profile.client_id_words}')
    if keep_alive is not None and _clamped(profile, keep_alive) != keep_alive:
        faults.append(f"keep_alive {keep_alive:g}s is out of bounds: {who} takes {_range(profile)}")
    if will is not None and not profile.will:
        faults.append(f"will: {who} takes none")
    elif will is not None and (refused := _judged(profile, will).refused) is not None:
        faults.append(f"will: {refused}")
    if window is not None and profile.window is not None and window > profile.window:
        faults.append(f"window {window} is too large: {who} takes at most {profile.window} unacknowledged messages")
    if protocol not in ("auto", *profile.protocols):
        faults.append(f"protocol {protocol} is not what {who} speaks: {' or '.join(profile.protocols)}")
    if profile.username and username is None:
        faults.append(f"username is missing: {who} takes nobody without")
    return faults


def clamp(profile: Profile, *, keep_alive: float, window: int) -> tuple[float, int]:
    """Return the keep-alive in seconds and the window that are used at a broker, instead of those asked for."""
    return _clamped(profile, keep_alive), window if profile.window is None else min(window, profile.window)


def _smaller(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)


def _judged(profile: Profile, will: Will) -> Verdict:
    return judge(profile, will.topic.encode(), len(will.payload), will.qos, will.retain)


def _topic_fault(profile: Profile, topic: bytes) -> str | None:
    if profile.topic_form is not None and not profile.topic_form.fullmatch(topic):
        return f'topic "{topic.decode(errors="replace")}" is not what {profile.who} takes: {profile.topic_words}'
    if profile.uncounted is not None and (start := profile.uncounted.match(topic)) is not None:
        topic = topic[start.end() :]
    if profile.topic_size is not None and len(topic) > profile.topic_size:
        return f"topic has {len(topic)} bytes; {profile.who} takes at most {profile.topic_size}"
    if profile.topic_levels is not None and (levels := topic.count(b"/") + 1) > profile.topic_levels:
        return f"topic has {levels} levels; {profile.who} takes at most {profile.topic_levels}"
    return None


def _size_fault(profile: Profile, topic: bytes, payload_size: int, qos: int) -> str | None:
    if profile.payload_size is not None and payload_size > profile.payload_size:
        return f"payload has {payload_size} bytes; {profile.who} takes at most {profile.payload_size}"
    if profile.packet_size is not None and (size := _packet_size(topic, payload_size, qos)) > profile.packet_size:
        return f"packet has {size} bytes; {profile.who} takes at most {profile.packet_size}"
    return None


def _packet_size(topic: bytes, payload_size: int, qos: int) -> int:
    """Return the bytes of an MQTT 5 PUBLISH without properties, one more than before MQTT 5. Specification: 3.3."""
    body = 2 + len(topic) + (2 if qos else 0) + 1 + payload_size
    return 1 + max(1, (body.bit_length() + 6) // 7) + body  # its length stands before it, seven bits in a byte


def _clamped(profile: Profile, keep_alive: float) -> float:
    low, high = profile.keep_alive
    if not keep_alive:
        return 0.0 if high is None else high
    return max(low, keep_alive if high is None else min(keep_alive, high))


def _range(profile: Profile) -> str:
    low, high = profile.keep_alive
    return f"{low:g}s or more" if high is None else f"{low:g}s to {high:g}s" if low else f"up to {high:g}s"
