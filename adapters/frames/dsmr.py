r"""DSMR P1 telegrams: smart meters in the Netherlands, Belgium, Luxembourg, Hungary and elsewhere.

Sources: Netbeheer Nederland, "P1 Companion Standard" 2.2, 4.2.2 and 5.0.2; Fluvius, "e-MUCS-P1" 1.7.1 (Belgium);
Creos, "Smarty P1" 1.1.3 (Luxembourg). A telegram goes from `/` to `!` and a CRC-16/ARC over both and what lies between
them, in up to 4 hex digits; versions 2.2 and 3 have none. Times carry S or W: summer or winter, in local time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from adapters.frames.checksums import crc16_arc
from adapters.frames.obis import Line, line, metric, quantity
from gateway import Value

# What is counted or says a state, and so has no unit, by medium and code.
_COUNTED: Final[dict[tuple[int, str], str]] = {
    (0, "96.14.0"): "tariff",
    (0, "96.3.10"): "breaker",
    (0, "96.7.21"): "power_failures",
    (0, "96.7.9"): "long_power_failures",
    (1, "13.7.0"): "power_factor",
    **{(1, f"{20 * phase + 13}.7.0"): f"power_factor_l{phase}" for phase in (1, 2, 3)},
    **{(1, f"{20 * phase + 12}.32.0"): f"voltage_sags_l{phase}" for phase in (1, 2, 3)},
    **{(1, f"{20 * phase + 12}.36.0"): f"voltage_swells_l{phase}" for phase in (1, 2, 3)},
}
# What is measured beside that which every meter names alike. The code for a current's average is its limit here.
_MEASURED: Final[dict[tuple[int, str], str]] = {
    (0, "17.0.0"): "power_limit",
    (1, "31.4.0"): "fuse_limit",
    (1, "51.4.0"): "fuse_limit_l2",
    (1, "71.4.0"): "fuse_limit_l3",
}
# M-Bus device types (EN 13757-3) of the meters that are read through this one.
_METERS: Final[dict[str, str]] = {
    "2": "electricity",
    "3": "gas",
    "4": "heat",
    "6": "warm_water",
    "7": "water",
    "10": "cooling",
    "11": "cooling",
    "12": "heat",
}
_GIGAJOULES: Final = Decimal("0.0036")  # of a kWh
_VOLUMES: Final = ("24.2.1", "24.2.3", "24.3.0")  # 24.2.3 is Belgian: gas as it flowed, at no normal temperature
_TIME: Final = re.compile(r"([0-9]{12})([SW])")
_FIRST: Final = 1_199_145_600.0  # 2008, when the first P1 port was described
_END: Final = re.compile(rb"!([0-9A-Fa-f]{0,4})\s*\Z")
_IDENTIFIED: Final = re.compile(rb"/[A-Za-z]{3}[0-9A-Za-z]")


def decode(frame: bytes, utc_offset: int = 1) -> dict[str, Value]:
    """Return what a telegram says, by metric; `time` is the meter's own, in UTC seconds, if it says one.

    A meter that is read through this one, such as that for gas, has its value as `gas` and the time of it as
    `gas_time`, where that is told. The meter's winter time is `utc_offset` hours ahead of UTC. Raises ValueError for
    what is no telegram, or has a wrong checksum.
    """
    text = _checked(frame)
    values: dict[str, Value] = {}
    channels: dict[int, str] = {}  # the kinds of the other meters
    for one in _lines(text):
        if one.medium is None or one.billing is not None:
            continue  # a meter that speaks IEC 62056-21 in mode D
        if one.medium == 0 and one.channel:
            _other_meter(one, one.channel, channels, values, utc_offset)
        elif one.medium == 0 and one.code == "1.0.0":
            _put(values, "time", _time(one.groups[0], utc_offset))
        else:
            _own(one, one.medium, values)
    if not values.keys() - {"time"}:
        raise ValueError("no values in it")
    return values


def _checked(frame: bytes) -> str:
    end = _END.search(frame)
    if end is None:
        raise ValueError("not a telegram")
    # Only version 2.2 has no checksum. It says neither its version nor the time.
    bare = not end[1] and not any(sign in frame for sign in (b"-0:1.0.0(", b":0.2.8(", b":96.1.4("))
    if bare and not _IDENTIFIED.match(frame):
        raise ValueError("not a telegram")  # but the rest of one, from a stroke in its text on
    if not bare and int(end[1] or b"0", 16) != crc16_arc(frame[: end.start() + 1]):
        raise ValueError("wrong checksum")
    try:
        return frame[: end.start()].decode("ascii")
    except ValueError:
        raise ValueError("not ASCII") from None


def _lines(text: str) -> Iterator[Line]:
    # Version 2.2 writes the value of the gas meter on a line of its own.
    for raw in re.sub(r"\)\r?\n\(", ")(", text).split("\n"):
        if (one := line(raw.rstrip("\r"))) is not None:
            yield one


def _own(one: Line, medium: int, values: dict[str, Value]) -> None:
    key = (medium, one.code)
    if (name := _COUNTED.get(key)) is not None:
        _put(values, name, quantity(one.groups[0]))
    elif name := _MEASURED.get(key) or (metric(one.code) if medium == 1 else None):
        # The peak of the month has its time first. What ought to have a unit and has none may be a thousand times more.
        measured = next((group for group in one.groups if "*" in group), "")
        if name == "power_limit" and measured.endswith("*A"):  # version 3
            name = "fuse_limit"
        _put(values, name, quantity(measured))


def _other_meter(one: Line, channel: int, channels: dict[int, str], values: dict[str, Value], utc_offset: int) -> None:
    if one.code == "24.1.0":
        channels[channel] = _METERS.get(one.groups[0].lstrip("0"), "meter")
    elif one.code in _VOLUMES:
        last = one.groups[-1]
        if "*" not in last and len(one.groups) > 2:  # version 2.2: the unit stands before the value
            last = f"{last}*{one.groups[-2]}"
        number = quantity(last) if "*" in last else None  # without a unit: that meter is gone, or has never said it
        if number is not None:
            kind = channels.get(channel, "meter")
            if kind in ("heat", "cooling") and last.lower().endswith("wh"):
                number = float(Decimal(str(number)) * _GIGAJOULES)
            name = f"{kind}_{channel}" if kind in values or kind == "meter" else kind
            values[name] = number
            _put(values, f"{name}_time", _time(one.groups[0], utc_offset))


def _put(values: dict[str, Value], name: str, value: Value | None) -> None:
    if value is not None:
        values[name] = value


def _time(text: str, utc_offset: int) -> float | None:
    """Return the UTC seconds of a time such as `101209113020W`; None if it is none, or does not tell its zone.

    Nor is a time before 2008 one: a clock that was never set begins in 1970 or 2000.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        local = datetime.strptime(match[1], "%y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    seconds = (local - timedelta(hours=utc_offset + (match[2] == "S"))).timestamp()
    return seconds if seconds >= _FIRST else None
