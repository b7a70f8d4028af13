"""What is speaking at a serial port: listens at the usual speeds, and asks each framer and decoder about what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import cycle
from typing import Any, NamedTuple, cast

from adapters.ports.network import port_at
from adapters.ports.port import Bytesize, Line, Parity, Port
from adapters.ports.serial import SerialPort
from adapters.serial.device import FramedDevice
from gateway import Adapter, DeviceError, Value
from gateway.tools import Guess, Heard

# Speeds in the order in which they are likely; others come last, as they are.
SPEEDS = (9600, 115200, 4800, 19200, 38400, 57600, 2400, 1200, 300)
ENOUGH = 48.0
"""Bits of evidence that make a guess sure: noise would look like it once in many years of listening."""
SHARE = 0.2
"""Part of all bytes that the frames of a guess must be: what is there belongs to something else otherwise."""
SPECIFIC = 16
"""Bits of one frame's proof from which it is what it looks like; what looks like plain text may hide something else."""
LONGEST = 65_536
"""Bytes heard at one line that are looked at, at most."""
_PER_LETTER = 1.4  # bits of evidence in a printable character, of which 95 of 256 bytes are one
_USUAL = 16  # bits at most; two kinds of meters write the same, and differ in their speeds
_TELEGRAM = 64  # bytes; one frame so long is as good as two short ones
_SAMPLE = 48
_PARITY = 0.8  # of all bytes must have it to be believed; half of them have it by chance


class Pace(NamedTuple):
    """How long to listen at one line, in seconds."""

    silence: float = 11.0  # for the first byte: some meters speak every ten seconds
    strange: float = 2.5  # from the first byte on, while nothing looks like anything
    promising: float = 15.0  # from the first byte on, while something looks right
    plain: float = 4.0  # from the first byte on, at least, before plain text is taken for just that
    look: float = 0.3  # between two looks at what has come


PACE = Pace()


class Setting(NamedTuple):
    """How a line is listened to. Seven bits with parity are found in what comes as eight bits without."""

    baudrate: int
    parity: Parity = "N"

    def __str__(self) -> str:
        return f"{self.baudrate} 8{self.parity}1"


def settings(kinds: Iterable[type[FramedDevice]]) -> list[Setting]:
    """Return how to listen so that each kind is heard, likely ones first."""
    wanted = set()
    for kind in kinds:
        for words in (line_of(kind), *kind.speaks_at):
            speed, _, form = words.partition(" ")
            wanted.add(Setting(int(speed), cast(Parity, form[1]) if form[0] == "8" else "N"))
    order = {speed: index for index, speed in enumerate(SPEEDS)}
    return sorted(wanted, key=lambda one: (one.parity != "N", order.get(one.baudrate, len(order)), one))


def line_of(kind: type[FramedDevice]) -> str:
    """Return the line at which a kind of device speaks unless told otherwise, as in "9600 8N1"."""
    default = {key: kind.model_fields[key].default for key in ("baudrate", "bytesize", "parity", "stopbits")}
    return str(Line(**default))


def views(stream: bytes, setting: Setting) -> Iterator[tuple[str, bytes]]:
    """Yield what was heard as the lines may have meant it: as it is, and without parity bits where there are such."""
    yield str(setting), stream
    if setting.parity == "N" and stream:
        even = sum(byte.bit_count() % 2 == 0 for byte in stream) / len(stream)
        for letter, part in (("E", even), ("O", 1 - even)):
            if part >= _PARITY:
                yield f"{setting.baudrate} 7{letter}1", bytes(byte & 0x7F for byte in stream)


def guesses(heard: bytes, setting: Setting, kinds: Mapping[str, type[FramedDevice]], port: str) -> list[Guess]:
    """Return which kinds read something in what was heard, the best guess first.

    Needs a running event loop, whose clock some decoders look at.
    """
    found = [
        guess
        for line, stream in views(heard, setting)
        for name, kind in kinds.items()
        for keys in kind.readable_with(stream)
        if (guess := _tried(name, kind, {**_different(kind, line), **keys}, line, stream, port)) is not None
    ]
    return sorted(found, key=rank, reverse=True)


def rank(guess: Guess) -> tuple[bool, int, float]:
    """Order guesses: sure ones first, then by how much one frame and its line prove, then by how much was read."""
    # A usual line proves no more than what is read there: lines of text at 9600 may well be a meter's, from a
    # recording, or through a network serial server whose speed nobody here knows.
    line = min(_USUAL, guess.proof) if guess.usual else 0
    return is_sure(guess), guess.proof + line, guess.evidence


def is_sure(guess: Guess) -> bool:
    """Say whether a guess is not by chance."""
    return guess.evidence >= ENOUGH and guess.share >= SHARE


def _different(kind: type[FramedDevice], line: str) -> dict[str, Any]:
    """Return the keys of a line where they are not the kind's own defaults."""
    speed, _, form = line.partition(" ")
    given = {"baudrate": int(speed), "bytesize": cast(Bytesize, int(form[0])), "parity": form[1]}
    return {key: value for key, value in given.items() if kind.model_fields[key].default != value}


def _tried(
    name: str, kind: type[FramedDevice], keys: dict[str, Any], line: str, stream: bytes, port: str
) -> Guess | None:
    device = kind(port=port, **keys)
    framer, decode = device.framer(), device.decoder()
    count, size, evidence, last = 0, 0, 0.0, dict[str, Value]()
    for frame in framer.feed(stream):
        try:
            values = decode(frame)
        except ValueError:
            continue
        # A decoder may keep to itself what is no news, such as the same tag once more.
        count, size, last = count + 1, size + len(frame), values or last
        text = frame.isascii() and frame.decode().replace("\t", " ").isprintable()
        evidence += kind.detectable + (_PER_LETTER * len(frame) if text else 0)
    if not last:
        return None
    if count == 1 and size < _TELEGRAM:
        evidence = min(evidence, ENOUGH / 2)
    usual = line in (line_of(kind), *kind.speaks_at)
    return Guess(name, keys, line, count, size / len(stream), kind.detectable, evidence, last, usual)


async def detect(
    port: str,
    kinds: Mapping[str, type[Adapter]],
    seconds: float,
    progress: Callable[[str], None],
    pace: Pace = PACE,
) -> Heard:
    """Listen at `port` until a guess is sure, for `seconds` at most. See `gateway.tools.Detect`."""
    chosen = {name: kind for name, kind in kinds.items() if issubclass(kind, FramedDevice) and kind.detectable}
    candidates = cast(Mapping[str, type[FramedDevice]], chosen)
    search = _Search(port, candidates, pace)
    try:
        async with asyncio.timeout(seconds) as limit, port_at(port, Line(dtr=None)) as opened:
            tunable = isinstance(opened, SerialPort)
            # A network serial server keeps the speed that it was set to, whatever that is.
            possible = settings(candidates.values()) if tunable else [Setting(9600)]
            for setting in cycle(tuple(possible)):
                if setting not in possible:
                    continue
                if isinstance(opened, SerialPort) and not _tuned(opened, setting, possible):
                    continue
                progress(str(setting) if tunable else "the line as the server has set it")
                if await search.listen(opened, setting):
                    break
    except TimeoutError:
        if not limit.expired():
            raise
    search.conclude()
    return search.heard


def _tuned(port: SerialPort, setting: Setting, possible: list[Setting]) -> bool:
    """Set the line; take what its driver cannot do off the list. Raises DeviceError when nothing is left of that."""
    try:
        port.retune(setting.baudrate, parity=setting.parity)
    except DeviceError:
        possible.remove(setting)
        if not possible:
            raise
        return False
    return True


class _Search:
    """What was heard so far at all lines, and what it may be."""

    def __init__(self, port: str, kinds: Mapping[str, type[FramedDevice]], pace: Pace) -> None:
        self.heard = Heard()
        self._port = port
        self._kinds = kinds
        self._pace = pace
        self._stream = bytearray()  # at the present line
        self._setting = Setting(SPEEDS[0])
        self._best: dict[str, list[Guess]] = {}
        self._clearest = -1.0  # how much of the sample can be read by a person

    async def listen(self, port: Port, setting: Setting) -> bool:
        """Listen at one line for as long as it is worth it; say whether there is a sure guess."""
        loop, pace = asyncio.get_running_loop(), self._pace
        if self.heard.tried:  # what came before the first line was set is as good as what comes after
            port.discard()
        self._stream.clear()
        self._setting = setting
        if str(setting) not in self.heard.tried:
            self.heard.tried.append(str(setting))
        begun, first, due, found = loop.time(), 0.0, 0.0, list[Guess]()
        while True:
            if not first:
                end = begun + pace.silence
            else:
                end = first + (pace.promising if found and found[0].share >= SHARE else pace.strange)
            chunk = await _within(port, min(end, due) if due else end)
            now = loop.time()
            if chunk:
                self.heard.size += len(chunk)
                self._stream += chunk[: LONGEST - len(self._stream)]
                first, due = first or now, due or now + pace.look
            if (due and now >= due) or now >= end:
                due, found = 0.0, self.conclude()
                patient = now - first >= pace.plain or (found and found[0].proof >= SPECIFIC)
                if found and is_sure(found[0]) and patient:
                    return True
                if now >= end or len(self._stream) >= LONGEST:
                    return False

    def conclude(self) -> list[Guess]:
        """Return the guesses about what was heard at the present line, and remember the best of all lines."""
        stream = bytes(self._stream)
        if not stream:
            return []
        found = guesses(stream, self._setting, self._kinds, self._port)
        self._best[str(self._setting)] = found
        self.heard.guesses = sorted((guess for some in self._best.values() for guess in some), key=rank, reverse=True)
        clear = sum(32 <= byte < 127 or byte in b"\r\n\t" for byte in stream) / len(stream)
        if clear > self._clearest:
            self._clearest, self.heard.sample = clear, stream[:_SAMPLE]
        return found


async def _within(port: Port, end: float) -> bytes:
    """Return the next chunk, or nothing if none has come until the loop's time `end`."""
    try:
        async with asyncio.timeout_at(end):
            return await port.read()
    except TimeoutError:
        return b""
