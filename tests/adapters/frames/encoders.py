"""Encoders of the binary frames, written from the data sheets: what devices send, for tests that decode it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from adapters.frames import a02yyuw, cse7766, nova, plantower, rdm6300, sensirion_shdlc, struct_frame, winsen
from adapters.frames.checksums import crc16_x25
from adapters.frames.framer import Framer
from gateway import Value

U8, U16, U24 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFF)


def pms(words: Sequence[int]) -> bytes:
    """Return a frame of a PMS5003 (13 words), PMS3003 (9 words) or PMS5003ST (17 words)."""
    body = struct.pack(f">2sH{len(words)}H", b"\x42\x4d", 2 * len(words) + 2, *words)
    return body + struct.pack(">H", sum(body) % 65536)


def sds011(pm2_5: int, pm10: int, device: int = 0) -> bytes:
    """Return a reading of an SDS011, in tenths of µg/m³."""
    data = struct.pack("<HHH", pm2_5, pm10, device)
    return b"\xaa\xc0" + data + bytes([sum(data) % 256, 0xAB])


def sds011_confirmation(command: bytes, device: int = 0) -> bytes:
    """Return what an SDS011 answers to a command of 19 bytes."""
    data = command[2:5] + b"\0" + struct.pack("<H", device)
    return b"\xaa\xc5" + data + bytes([sum(data) % 256, 0xAB])


def mhz19(co2: int, temperature: int, rest: bytes = b"\0\0\0") -> bytes:
    """Return the answer of an MH-Z19, in ppm and °C."""
    body = struct.pack(">BHB3s", 0x86, co2, temperature + 40, rest)
    return b"\xff" + body + bytes([(256 - sum(body) % 256) % 256])


def shdlc(command: int, state: int, data: bytes, address: int = 0) -> bytes:
    """Return an answer of an SPS30, stuffed."""
    body = bytes([address, command, state, len(data)]) + data
    body += bytes([~sum(body) & 0xFF])
    stuffed = body.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    return b"\x7e" + stuffed.replace(b"\x11", b"\x7d\x31").replace(b"\x13", b"\x7d\x33") + b"\x7e"


def sps30(numbers: Sequence[float]) -> bytes:
    """Return a reading of an SPS30."""
    return shdlc(0x03, 0, struct.pack(">10f", *numbers))


def distance(millimetres: int) -> bytes:
    """Return a frame of an A02YYUW."""
    body = struct.pack(">BH", 0xFF, millimetres)
    return body + bytes([sum(body) % 256])


def cse7766_frame(pairs: Sequence[tuple[int, int]], state: int = 0x55, valid: int = 0x71, pulses: int = 0) -> bytes:
    """Return a frame of a CSE7766, from coefficient and cycle of voltage, current and power."""
    body = b"".join(number.to_bytes(3, "big") for pair in pairs for number in pair)
    body += struct.pack(">BH", valid, pulses)
    return bytes([state, 0x5A]) + body + bytes([sum(body) % 256])


def tag(number: int) -> bytes:
    """Return what an RDM6300 writes about a tag of 40 bits."""
    raw = number.to_bytes(5, "big")
    check = raw[0] ^ raw[1] ^ raw[2] ^ raw[3] ^ raw[4]
    return b"\x02" + f"{number:010X}{check:02X}".encode() + b"\x03"


def described_fixed(temperature: int, total: int, level: int) -> bytes:
    """Return a frame of 10 bytes whose bytes add up to 0, low bytes first."""
    body = b"\xc3\x5c" + struct.pack("<hIB", temperature, total, level)
    return body + bytes([-sum(body) & 0xFF])


def described_length(numbers: Sequence[int]) -> bytes:
    """Return a frame that tells how many bytes follow its length, and ends with a CRC of them."""
    body = struct.pack(f">B{len(numbers)}i", len(numbers) * 4 + 2, *numbers)
    return b"\xd1" + body + crc16_x25(body).to_bytes(2, "little")


@dataclass(frozen=True)
class Format:
    """One wire format: how it is read, and what its devices could send."""

    framer: Callable[[], Framer]
    decoder: Callable[[], Callable[[bytes], dict[str, Value]]]
    wire: st.SearchStrategy[bytes]  # one frame as it stands on the wire


def _of(decode: Callable[[bytes], dict[str, Value]]) -> Callable[[], Callable[[bytes], dict[str, Value]]]:
    return lambda: decode


FORMATS: dict[str, Format] = {
    "plantower": Format(
        plantower.framer,
        _of(plantower.decode),
        st.sampled_from([9, 13, 17]).flatmap(lambda count: st.lists(U16, min_size=count, max_size=count)).map(pms),
    ),
    "nova": Format(nova.framer, _of(nova.decode), st.builds(sds011, U16, U16, U16)),
    "plantower-t": Format(
        plantower.framer,
        _of(partial(plantower.decode, model="PMS5003T")),
        st.lists(U16, min_size=13, max_size=13).map(pms),
    ),
    "winsen": Format(
        winsen.framer,
        _of(winsen.decode),
        st.builds(mhz19, U16, st.integers(-40, 215), st.binary(min_size=3, max_size=3)),
    ),
    "sensirion-shdlc": Format(
        sensirion_shdlc.framer,
        _of(sensirion_shdlc.decode),
        st.lists(st.floats(0, 3000, width=32), min_size=10, max_size=10).map(sps30),
    ),
    "a02yyuw": Format(a02yyuw.framer, _of(a02yyuw.decode), st.integers(30, 15_000).map(distance)),
    "cse7766": Format(
        cse7766.framer,
        cse7766.decoder,
        st.builds(cse7766_frame, st.lists(st.tuples(U24, U24), min_size=3, max_size=3), valid=U8, pulses=U16),
    ),
    "described-fixed": Format(
        lambda: struct_frame.framer(b"\xc3\x5c", 10, struct_frame.Check("sum8-negated", -1)),
        lambda: struct_frame.decoder(
            [
                struct_frame.Number("temperature", 2, "i16", "le", 0.1),
                struct_frame.Number("total", 4, "u32", "le"),
                struct_frame.Number("level", 8, "u8", offset=-40),
            ]
        ),
        st.builds(described_fixed, st.integers(-(2**15), 2**15 - 1), st.integers(0, 2**32 - 1), U8),
    ),
    "described-length": Format(
        lambda: struct_frame.framer(
            b"\xd1", struct_frame.Length(1, plus=2), struct_frame.Check("crc16-x25", -2, start=1)
        ),
        lambda: struct_frame.decoder(
            [struct_frame.Number("first", 2, "i32"), struct_frame.Number("last", -6, "i32", scale=0.001)]
        ),
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20).map(described_length),
    ),
    "rdm6300": Format(rdm6300.framer, _of(rdm6300.decode), st.integers(0, 2**40 - 1).map(tag)),
}

EXAMPLES: dict[str, bytes] = {
    "plantower": pms(range(13)),
    "nova": sds011(6, 6),
    "plantower-t": pms(range(13)),
    "winsen": mhz19(636, 26),
    "sensirion-shdlc": sps30([1.0] * 10),
    "a02yyuw": distance(1953),
    "cse7766": cse7766_frame([(194400, 939), (16400, 155741), (5351000, 256495)]),
    "described-fixed": described_fixed(-125, 100_000, 200),
    "described-length": described_length([1, -2, 3]),
    "rdm6300": tag(0x0123456789),
}


def read(form: Format, stream: bytes, cuts: Sequence[int] = ()) -> list[Any]:
    """Return the readings in a stream that is cut at some places; what raises ValueError is none."""
    framer, decode = form.framer(), form.decoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    readings = []
    for start, end in pairwise(edges):
        for frame in framer.feed(stream[start:end]):
            try:
                values = decode(frame)
            except ValueError:
                continue
            readings.append(values)
    return readings
