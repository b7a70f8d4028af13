"""OBIS codes, by which meters name what they measure: one name and one unit for each, whatever the meter speaks.

Source: IEC 62056-61 (electricity: groups C quantity, D kind, E tariff) and the DLMS UA Blue Book, part 1. Energy is
given in kWh, kvarh and kVAh, power in W, var and VA, voltage in V, current in A, volume in m³ and heat in GJ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

# C, without its phase: the name of the energy, and that of the momentary value.
_QUANTITIES: Final[dict[int, tuple[str, str]]] = {
    1: ("energy_import", "power_import"),
    2: ("energy_export", "power_export"),
    3: ("reactive_energy_import", "reactive_power_import"),
    4: ("reactive_energy_export", "reactive_power_export"),
    5: ("reactive_energy_q1", "reactive_power_q1"),
    6: ("reactive_energy_q2", "reactive_power_q2"),
    7: ("reactive_energy_q3", "reactive_power_q3"),
    8: ("reactive_energy_q4", "reactive_power_q4"),
    9: ("apparent_energy_import", "apparent_power_import"),
    10: ("apparent_energy_export", "apparent_power_export"),
    11: ("", "current"),
    12: ("", "voltage"),
    13: ("", "power_factor"),
    14: ("", "frequency"),
    15: ("energy_absolute", "power_absolute"),
    16: ("energy_net", "power"),
}

# Spelling, in lower case: the powers of ten to the unit in which it is given.
_UNITS: Final[dict[str, int]] = {
    "": 0,
    **dict.fromkeys(("kwh", "kvarh", "kvah", "w", "var", "va", "v", "a", "hz", "m3", "gj"), 0),
    **dict.fromkeys(("wh", "varh", "vah", "ma", "mv", "dm3", "l", "mj"), -3),
    **dict.fromkeys(("mwh", "kw", "kvar", "kva", "kv"), 3),
}
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,9})?")
_LINE: Final = re.compile(
    r"(?:([0-9]{1,3})-([0-9]{1,3}):)?([0-9A-Z]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:[*&]([0-9]{1,3}))?"
    r"((?:\([^()]*\))+)"
)


class Line(NamedTuple):
    """One line of a telegram in text: the code and what stands in its brackets."""

    medium: int | None  # A; None where a meter leaves it out
    channel: int | None  # B
    code: str  # C.D.E, or C.D
    billing: int | None  # F: the period, for values of the past
    groups: list[str]


def line(text: str) -> Line | None:
    """Return what a line such as `1-0:1.8.1(000123.456*kWh)` says; None if it is none."""
    match = _LINE.fullmatch(text)
    return None if match is None else _line(match)


def data_sets(text: str) -> Iterator[Line]:
    """Return what a line such as `1.8.0(000123*kWh)2.8.0(000045*kWh)` says, one after the other, as far as it does."""
    at = 0
    while (match := _LINE.match(text, at)) is not None:
        yield _line(match)
        at = match.end()


def _line(match: re.Match[str]) -> Line:
    a, b, c, d, e, f, groups = match.groups()
    code = f"{c}.{d}" if e is None else f"{c}.{d}.{e}"
    return Line(_whole(a), _whole(b), code, _whole(f), groups[1:-1].split(")("))


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


def metric(code: str) -> str | None:
    """Return the name of what the electricity code `C.D.E` measures, such as `energy_import_tariff_1`; else None.

    Some meters leave the tariff out where there cannot be one: `32.7` is `32.7.0`.
    """
    try:
        c, d, e = map(int, (f"{code}.0" if re.fullmatch(r"[0-9]+\.7", code) else code).split("."))
    except ValueError:
        return None
    if code == "91.7.0":
        return "current_n"
    phase = (c - 1) // 20 if 20 < c <= 80 else 0
    energy, momentary = _QUANTITIES.get(c - 20 * phase, ("", ""))
    where = f"_l{phase}" if phase else ""
    if d == 8 and energy:
        return f"{energy}{where}_tariff_{e}" if e else f"{energy}{where}"
    kind = {7: "", 4: "_average", 6: "_peak"}.get(d)
    if kind is None or not momentary or e:
        return None
    return f"{momentary}{where}{kind}"


def number(text: str, unit: str = "") -> float | int | None:
    """Return a number in the unit in which it is given here; None if it is no number, or its unit is unknown.

    It is exact to the last digit that the meter writes. A number without a point and without a unit is a whole one.
    """
    power = _UNITS.get(unit.strip().lower())
    if power is None or _NUMBER.fullmatch(text) is None:
        return None
    if not unit and "." not in text:
        return int(text)
    return float(Decimal(text).scaleb(power))


def quantity(group: str) -> float | int | None:
    """Return the number in a bracket such as `000123.456*kWh`, or `0000123 kWh`; None if there is none."""
    text, _, unit = group.partition("*") if "*" in group else group.strip().partition(" ")
    return number(text.strip(), unit)
