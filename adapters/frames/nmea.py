"""NMEA 0183 sentences: position, speed, course and time of satellite receivers, and what instruments on boats say.

Source: NMEA 0183 / IEC 61162-1 as published in u-blox "Receiver Description" UBX-13003221 and gpsd's "NMEA Revealed".
A sentence is a line `$TTSSS,...*hh`: talker, sentence, fields, and the exclusive or of what stands between `$` and `*`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from adapters.frames.checksums import xor8
from gateway import Value

KNOT: Final = 1.852  # km/h
_DAY: Final = 86400.0

_SENTENCE: Final = re.compile(r"\$([\x21-\x23\x25-\x29\x2b-\x7e]{5}),([^$*!]*)\*([0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(r"-?(?:[0-9]{1,10}(?:\.[0-9]{0,10})?|\.[0-9]{1,10})")
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9]|60)(\.[0-9]{1,9})?")

Read = Callable[[Sequence[str]], dict[str, Value]]


def decoder() -> Callable[[bytes], dict[str, Value]]:
    """Return the function that reads a sentence: its values by metric; nothing for those that are not known.

    `time`, in UTC seconds, is when a position was measured. GGA and GLL say the time of day alone: it is of the day
    that RMC or ZDA has said last. Raises ValueError for what is no sentence, or has a wrong checksum or none.
    """
    last: float | None = None  # when the last sentence with a date was

    def decode(frame: bytes) -> dict[str, Value]:
        nonlocal last
        kind, fields = sentence(frame)
        read = _SENTENCES.get(kind)
        if read is None:
            return {}
        try:
            values = read(fields)
        except IndexError:
            raise ValueError("too few fields") from None
        day, clock = values.pop("day", None), values.pop("clock", None)
        if clock is not None:
            if day is not None:
                last = float(day) + float(clock)
                values["time"] = last
            elif last is not None:
                values["time"] = _nearest(last, float(clock))
        return values if values.keys() - {"time"} else {}

    return decode


def sentence(frame: bytes) -> tuple[str, list[str]]:
    """Return the kind of a sentence, such as `GGA`, and its fields. Kinds of their makers' own begin with `P`."""
    line = frame[max(0, frame.rfind(b"$")) :]
    try:
        match = _SENTENCE.fullmatch(line.decode("ascii"))
    except ValueError:
        match = None
    if match is None:
        raise ValueError("not a sentence with a checksum")
    if xor8(line[1:-3]) != int(match[3], 16):
        raise ValueError("wrong checksum")
    kind = match[1] if match[1].startswith("P") else match[1][2:]
    return kind, match[2].split(",")


def _nearest(last: float, clock: float) -> float:
    """Return the time of day `clock` on the day that brings it nearest to `last`."""
    time = last - last % _DAY + clock
    return time + _DAY * round((last - time) / _DAY)


def _gga(fields: Sequence[str]) -> dict[str, Value]:
    quality = _number(fields[5])
    if not quality:
        return {"fix_quality": 0}
    return _told(
        clock=_clock(fields[0]),
        **_position(fields[1:5]),
        fix_quality=int(quality),
        satellites=_whole(fields[6]),
        hdop=_number(fields[7]),
        altitude=_number(fields[8]),
        geoid_separation=_number(fields[10]),
    )


def _rmc(fields: Sequence[str]) -> dict[str, Value]:
    if fields[1] != "A" or fields[11:12] == ["N"]:  # from NMEA 2.3 on the mode says it once more
        return {"valid": False}  # nor is its time worth much
    return _told(
        clock=_clock(fields[0]),
        day=_day(fields[8][:2], fields[8][2:4], _century(fields[8][4:]) + fields[8][4:]),
        valid=True,
        **_position(fields[2:6]),
        speed=_number(fields[6], KNOT),
        course=_number(fields[7]),
    )


def _gll(fields: Sequence[str]) -> dict[str, Value]:
    if fields[5] != "A" or fields[6:7] == ["N"]:
        return {"valid": False}
    return _told(clock=_clock(fields[4]), valid=True, **_position(fields[:4]))


def _vtg(fields: Sequence[str]) -> dict[str, Value]:
    # Older receivers leave the letters out: course, magnetic course, knots, km/h; others what they do not know.
    if fields[1] == "T":
        fields = [*fields, "", ""][:8:2]
    true, magnetic, knots, speed = fields[:4]
    return _told(
        course=_number(true),
        course_magnetic=_number(magnetic),
        speed=_number(speed) if speed else _number(knots, KNOT),
    )


def _zda(fields: Sequence[str]) -> dict[str, Value]:
    return _told(clock=_clock(fields[0]), day=_day(fields[1], fields[2], fields[3]))


def _gsa(fields: Sequence[str]) -> dict[str, Value]:
    return _told(fix=_whole(fields[1]), pdop=_number(fields[14]), hdop=_number(fields[15]), vdop=_number(fields[16]))


def _wind(fields: Sequence[str]) -> dict[str, Value]:
    factor = {"N": KNOT, "M": 3.6, "K": 1.0}.get(fields[3])
    if fields[4] != "A" or factor is None:
        return {}
    kind = "true" if fields[1] == "T" else "apparent"
    return _told(
        **{f"wind_angle_{kind}": _number(fields[0]), f"wind_speed_{kind}": _number(fields[2], factor)},
    )


def _water_speed(fields: Sequence[str]) -> dict[str, Value]:
    return _told(heading=_number(fields[0]), heading_magnetic=_number(fields[2]), water_speed=_number(fields[4], KNOT))


_SENTENCES: Final[dict[str, Read]] = {
    "GGA": _gga,
    "RMC": _rmc,
    "GLL": _gll,
    "VTG": _vtg,
    "ZDA": _zda,
    "GSA": _gsa,
    "HDT": lambda fields: _told(heading=_number(fields[0])),
    "HDM": lambda fields: _told(heading_magnetic=_number(fields[0])),
    "HDG": lambda fields: _told(heading_magnetic=_number(fields[0])),
    "DBT": lambda fields: _told(depth=_number(fields[2])),
    "DPT": lambda fields: _told(depth=_number(fields[0])),
    "MTW": lambda fields: _told(water_temperature=_number(fields[0])),
    "MWV": _wind,
    "VHW": _water_speed,
}


def _told(**values: Value | None) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}


def _number(text: str, factor: float = 1.0) -> float | None:
    """Return a number; None for an empty field. Raises ValueError for anything else."""
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return round(float(text) * factor, 9) if factor != 1.0 else float(text)


def _whole(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _position(fields: Sequence[str]) -> dict[str, float]:
    """Return latitude and longitude in degrees, north and east positive; nothing, if they are left out."""
    latitude = _degrees(fields[0], 2, 90.0, {"N": 1, "S": -1}.get(fields[1]))
    longitude = _degrees(fields[2], 3, 180.0, {"E": 1, "W": -1}.get(fields[3]))
    if latitude is None or longitude is None:
        return {}
    return {"latitude": latitude, "longitude": longitude}


def _degrees(text: str, digits: int, most: float, sign: int | None) -> float | None:
    """Return the degrees of `dddmm.mmmm`; what lies between two digits of the last place is rounded to 1 mm."""
    if not text:
        return None
    minutes = _number(text[digits:])
    if sign is None or minutes is None or not text[:digits].isdecimal() or not 0 <= minutes < 60:
        raise ValueError("not a position")
    degrees = int(text[:digits]) + minutes / 60
    if degrees > most:
        raise ValueError("not a position")
    return sign * round(degrees, 8)


def _clock(text: str) -> float | None:
    """Return the seconds since midnight of `hhmmss.ss`."""
    if not text:
        return None
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError("not a time")
    hours, minutes, seconds, part = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(part or 0)


def _century(year: str) -> str:
    """Return the century of a year of two digits. The satellites' time began in 1980."""
    return "19" if year >= "80" else "20"


def _day(day: str, month: str, year: str) -> float | None:
    """Return the UTC seconds at which a day began."""
    if not day and not month:
        return None
    if not (day + month + year).isdecimal() or len(year) != 4:
        raise ValueError("not a date")
    try:
        return datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError("not a date") from None
