r"""Lines of scales and balances: `ST,GS,+  12.345kg`.

Sources: A&D, "GX-A/GF-A communication manual" and "GC series" (header `ST`, `US`, `OL`, `QT`; `LO`, `OK`, `HI`; data;
unit); CAS, KERN and others add `GS` or `NT` (gross, net); Ohaus, "RS232 interface" and "Defender 3000": weight, unit,
`?` while it is not stable, then `G`, `N` or `NET`; Mettler Toledo, "MT-SICS": `S`, `S` or `D` (stable, dynamic),
weight, unit. There is no checksum.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from gateway import Value

# Unit, in lower case: kilograms, exactly.
_KILOGRAMS: Final[dict[str, Decimal]] = {
    unit: Decimal(text)
    for units, text in {
        "kg": "1",
        "g": "0.001",
        "mg": "0.000001",
        "t": "1000",
        "lb lbs": "0.45359237",
        "oz": "0.028349523125",
        "ozt": "0.0311034768",
        "ct": "0.0002",
        "mom": "0.00375",
        "dwt": "0.00155517384",
        "gn": "0.00006479891",
    }.items()
    for unit in units.split()
}
_PIECES: Final = frozenset({"pc", "pcs"})

_LINE: Final = re.compile(
    r"(?:(?P<header>ST|US|OL|QT|WT|TR|PT),|S (?P<sics>[SD]) )? ?(?:(?:HI|OK|LO|--),)?(?:(?P<kind>GS|NT|TR|G|N),)? ?"
    r"(?P<number>[+-]? ?(?:[0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})) ?"
    r"(?:, ?)?(?P<unit>[A-Za-z]{1,3}|%)? ?(?P<moving>\?)? ?(?P<after>NET|GROSS|GS|NT|G|N|B|T)?",
)
_OVERLOAD: Final = re.compile(r"OL(?:,.*)?|(?:GS|NT),OL.*|S [-+]| ?[-+]? ?(?:OL|Error 8\.[34]) ?")
_NET: Final = {"NT": True, "N": True, "NET": True, "GS": False, "G": False, "GROSS": False, "B": False}


def decode(frame: bytes) -> dict[str, Value]:
    """Return what a line says: `weight` in kg, `pieces` or `percent`; and, where it tells, `stable` and `net`.

    A weight without a unit is taken as it stands. Above its range a scale says `overload`, and nothing else; a tare
    weight that it lists is no weight, and gives nothing. Raises ValueError for what is no such line.
    """
    try:
        text = " ".join(frame.decode("ascii").split())
    except ValueError:
        raise ValueError("not ASCII") from None
    if _OVERLOAD.fullmatch(text):
        return {"overload": True}
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("not a line of a scale")
    header, sics, kind, number, unit, moving, after = match.groups()
    unit = (unit or "").lower()
    if "TR" in (header, kind) or header == "PT" or after == "T":
        return {}
    value = Decimal("".join(number.split()))
    values: dict[str, Value] = {}
    if unit in _PIECES or (header == "QT" and not unit):
        values["pieces"] = int(value)
    elif unit == "%":
        values["percent"] = float(value)
    elif unit in _KILOGRAMS or not unit:
        values["weight"] = float(value * _KILOGRAMS.get(unit, 1))
    else:
        raise ValueError("unknown unit")
    if header in ("ST", "US") or sics or moving:
        values["stable"] = header != "US" and sics != "D" and not moving
    if (net := _NET.get(kind or after or "")) is not None:
        values["net"] = net
    return values
