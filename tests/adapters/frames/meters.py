"""Encoders of the formats of meters, receivers and scales, written from the standards: for tests that decode them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import strategies as st

from adapters.frames import dsmr, iec62056_21, nmea, scales, sml, teleinfo, vedirect
from adapters.frames.ciphered import CipheredFramer
from adapters.frames.lines import LineFramer
from adapters.frames.telegrams import TelegramFramer
from tests.adapters.frames.encoders import Format

KEY = bytes(range(16))
AUTHENTICATION = bytes.fromhex("3000112233445566778899AABBCCDDEEFF")


def crc16(data: bytes, start: int, final: int) -> int:
    """Return the CRC-16 with the reflected polynomial 0xA001 or, for `final` 0xFFFF, 0x8408; bit by bit."""
    remainder, polynomial = start, 0x8408 if final else 0xA001
    for byte in data:
        for bit in range(8):
            odd = (remainder ^ byte >> bit) & 1
            remainder = remainder >> 1 ^ (polynomial if odd else 0)
    return remainder ^ final


def p1(lines: Sequence[str], *, padded: bool = True, checked: bool = True) -> bytes:
    """Return a P1 telegram of these lines."""
    body = "\r\n".join(["/KFM5KAIFA-METER", "", *lines, "!"]).encode()
    check = f"{crc16(body, 0, 0):{'04X' if padded else 'X'}}" if checked else ""
    return body + check.encode() + b"\r\n"


def ciphered(telegram: bytes, *, key: bytes = KEY, counter: int = 1, written: int = 0) -> bytes:
    """Return a telegram as a Smarty sends it; `written` is how many bytes the length takes, 0: as few as it can."""
    title = b"SAG\x05\x00\x01\xdb\x08"
    sealed = AESGCM(key).encrypt(title + counter.to_bytes(4, "big"), telegram, AUTHENTICATION)[:-4]  # a tag of 12 bytes
    body = b"\x30" + counter.to_bytes(4, "big") + sealed
    width = written or (1 if len(body) < 128 else 2)
    length = bytes([len(body)]) if width == 1 else bytes([0x80 | width]) + len(body).to_bytes(width, "big")
    return b"\xdb\x08" + title + length + body


def readout(lines: Sequence[str]) -> bytes:
    """Return what a mode D meter sends."""
    return "\r\n".join(["/EMH5---ED300L", "", *lines, "!", ""]).encode()


def block(lines: Sequence[str]) -> bytes:
    """Return what a mode C meter sends after the acknowledgement."""
    body = "\r\n".join([*lines, "!", "\x03"]).encode()
    check = 0
    for byte in body:
        check ^= byte
    return b"\x02" + body + bytes([check])


def element(value: Any) -> bytes:
    """Return an SML value: None, bytes, a list, or (type, bytes) for a number as it stands on the wire."""
    if value is None:
        return b"\x01"
    kind, content = (0, value) if isinstance(value, bytes) else (7, value) if isinstance(value, list) else value
    size = len(content) + (0 if kind == 7 else 1)
    if size > 15 and kind != 7:
        size += 1
    high = bytes([0x80 | kind << 4 | size >> 4]) if size > 15 else b""
    head = high + bytes([(0 if high else kind << 4) | size & 15])
    return head + (b"".join(map(element, content)) if kind == 7 else content)


def integer(value: int, width: int = 8) -> tuple[int, bytes]:
    return 5, value.to_bytes(width, "big", signed=True)


def unsigned(value: int, width: int) -> tuple[int, bytes]:
    return 6, value.to_bytes(width, "big")


Register = tuple[bytes, int, int, int]  # name, unit, power of ten, value


def sml_message(kind: int, body: Any) -> bytes:
    start = b"\x76" + b"".join(map(element, [b"\x07\x01", unsigned(0, 1), unsigned(0, 1), [unsigned(kind, 4), body]]))
    return start + element(unsigned(int.from_bytes(crc16(start, 0xFFFF, 0xFFFF).to_bytes(2, "little")), 2)) + b"\x00"


def sml_content(registers: Sequence[Register]) -> bytes:
    """Return the messages of an SML file: open, a list of values, close."""
    entries = [
        [name, unsigned(0x182, 2), None, unsigned(unit, 1), integer(power, 1), integer(value), None]
        for name, unit, power, value in registers
    ]
    server = b"\x0a\x01EMH\x00\x00\x12\x34\x56"
    listed = [None, server, b"\x01\x00\x62\x0a\xff\xff", [unsigned(1, 1), unsigned(77, 4)], entries, None, None]
    return (
        sml_message(0x0101, [None, None, b"\x01", server, None, None])
        + sml_message(0x0701, listed)
        + sml_message(0x0201, [None])
    )


def sml_file(content: bytes) -> bytes:
    """Return an SML file as it stands on the wire."""
    fill = -len(content) % 4
    wire = b"\x1b" * 4 + b"\x01" * 4 + content.replace(b"\x1b" * 4, b"\x1b" * 8) + bytes(fill)
    # A doubled escape does not change the length modulo four.
    wire += b"\x1b" * 4 + b"\x1a" + bytes([fill])
    return wire + crc16(wire, 0xFFFF, 0xFFFF).to_bytes(2, "little")


def tic(groups: Sequence[tuple[str, ...]], separator: str = "\t") -> bytes:
    """Return a Teleinfo frame: historical with " ", standard with a tab."""
    frame = ""
    for group in groups:
        text = separator.join(group)
        covered = text + separator if separator == "\t" else text
        check = (sum(covered.encode()) & 0x3F) + 0x20
        frame += f"\n{text}{separator}{chr(check)}\r"
    return b"\x02" + frame.encode() + b"\x03"


def sentence(text: str) -> bytes:
    """Return an NMEA 0183 sentence."""
    check = 0
    for byte in text.encode():
        check ^= byte
    return f"${text}*{check:02X}\r\n".encode()


def victron(pairs: Sequence[tuple[str, str]]) -> bytes:
    """Return a block of VE.Direct."""
    body = "".join(f"\r\n{key}\t{value}" for key, value in pairs).encode() + b"\r\nChecksum\t"
    return body + bytes([-sum(body) % 256])


NUMBER = st.integers(0, 999_999_999)
DSMR_LINES = st.builds(
    lambda energy, power, gas: [
        "1-3:0.2.8(50)",
        "0-0:1.0.0(230115133000W)",
        f"1-0:1.8.1({energy // 1000:06}.{energy % 1000:03}*kWh)",
        f"1-0:1.7.0({power // 1000:02}.{power % 1000:03}*kW)",
        "0-1:24.1.0(003)",
        f"0-1:24.2.1(230115130000W)({gas // 1000:05}.{gas % 1000:03}*m3)",
    ],
    NUMBER,
    st.integers(0, 99_999),
    st.integers(0, 99_999_999),
)
REGISTERS = st.lists(
    st.builds(
        lambda name, power, value: (name, 30, power, value),
        st.sampled_from([b"\x01\x00\x01\x08\x00\xff", b"\x01\x00\x02\x08\x01\xff", b"\x01\x00\x1b\x1b\x1b\x1b"]),
        st.integers(-4, 3),
        # Values with many escapes in them, at any place.
        st.one_of(st.integers(-(2**40), 2**40), st.sampled_from([0x1B1B1B1B, 0x1B1B1B1B1B1B1B, 0x1B1B1B1B1A, 0x1B])),
    ),
    min_size=1,
    max_size=5,
)
GROUPS = st.builds(
    lambda energy, power: [
        ("ADSC", "041876097659"),
        ("DATE", "H230115133000", ""),
        ("LTARF", "   HEURE  CREUSE "),
        ("EAST", f"{energy:09}"),
        ("SINSTS", f"{power:05}"),
    ],
    NUMBER,
    st.integers(0, 99_999),
)
OLD_GROUPS = st.builds(
    lambda energy, power: [
        ("ADCO", "040422040644"),
        ("PTEC", "HP.."),
        ("HCHP", f"{energy:09}"),
        ("PAPP", f"{power:05}"),
    ],
    NUMBER,
    st.integers(0, 99_999),
)
SENTENCES = st.builds(
    lambda degrees, minutes, speed: (
        f"GPRMC,120000.00,A,{degrees:02}{minutes:02}.5,N,00000.00,E,{speed}.5,90.0,150123,,,A"
    ),
    st.integers(0, 89),
    st.integers(0, 59),
    st.integers(0, 100),
)
PAIRS = st.builds(
    lambda voltage, current, power: [
        ("PID", "0xA053"),
        ("V", str(voltage)),
        ("I", str(current)),
        ("VPV", str(power)),
        ("LOAD", "ON"),
    ],
    st.integers(0, 60_000),
    st.integers(-100_000, 100_000),
    st.integers(0, 100_000),
)


FORMATS: dict[str, Format] = {
    "dsmr": Format(TelegramFramer, lambda: dsmr.decode, DSMR_LINES.map(p1)),
    "dsmr-ciphered": Format(
        lambda: CipheredFramer(KEY, AUTHENTICATION),
        lambda: dsmr.decode,
        st.builds(
            lambda lines, counter, written: ciphered(p1(lines), counter=counter, written=written),
            DSMR_LINES,
            st.integers(0, 2**32 - 1),
            st.sampled_from([0, 2, 4]),
        ),
    ),
    "sml": Format(sml.SmlFramer, lambda: sml.decode, REGISTERS.map(sml_content).map(sml_file)),
    "teleinfo": Format(teleinfo.TeleinfoFramer, lambda: teleinfo.decode, GROUPS.map(tic)),
    "teleinfo-historical": Format(
        teleinfo.TeleinfoFramer, lambda: teleinfo.decode, OLD_GROUPS.map(lambda groups: tic(groups, " "))
    ),
    "nmea": Format(lambda: LineFramer(256), nmea.decoder, SENTENCES.map(sentence)),
    "vedirect": Format(vedirect.VeDirectFramer, lambda: vedirect.decode, PAIRS.map(victron)),
    "iec62056-21-block": Format(
        iec62056_21.BlockFramer,
        lambda: iec62056_21.decode,
        NUMBER.map(lambda energy: block(["0.0.0(00123456)", f"1.8.0({energy // 1000:06}.{energy % 1000:03}*kWh)"])),
    ),
}

# Without a checksum: each split and garbage between frames, but no law about wrong bits.
BARE: dict[str, Format] = {
    "dsmr-2.2": Format(
        TelegramFramer, lambda: dsmr.decode, NUMBER.map(lambda e: p1([f"1-0:1.8.1({e}.5*kWh)"], checked=False))
    ),
    "iec62056-21": Format(
        TelegramFramer, lambda: iec62056_21.decode, NUMBER.map(lambda e: readout([f"1.8.0({e}.5*kWh)"]))
    ),
    "scale": Format(
        lambda: LineFramer(128), lambda: scales.decode, NUMBER.map(lambda g: f"ST,GS,+{g:>9}.5 kg\r\n".encode())
    ),
}

EVERY = {**FORMATS, **BARE}

EXAMPLES: dict[str, bytes] = {
    "dsmr": p1(["1-3:0.2.8(50)", "0-0:1.0.0(230115133000W)", "1-0:1.8.1(000123.456*kWh)"]),
    "dsmr-ciphered": ciphered(p1(["1-0:1.8.1(000123.456*kWh)"])),
    "sml": sml_file(sml_content([(b"\x01\x00\x01\x08\x00\xff", 30, -1, 0x1B1B1B1B)])),
    "teleinfo": tic([("DATE", "H230115133000", ""), ("EAST", "001234567"), ("LTARF", "HP BLEU")]),
    "teleinfo-historical": tic([("BASE", "001234567"), ("PTEC", "TH..")], " "),
    "nmea": sentence("GPHDT,274.07,T"),
    "vedirect": victron([("V", "12800"), ("I", "-228"), ("LOAD", "ON")]),
    "iec62056-21-block": block(["1.8.0(001234.567*kWh)"]),
    "dsmr-2.2": p1(["1-0:1.8.1(00123.456*kWh)"], checked=False),
    "iec62056-21": readout(["1.8.0(001234.567*kWh)"]),
    "scale": b"ST,GS,+  12.345kg\r\n",
}
