"""Units of measurement: as Home Assistant writes them, with their names in SenML and in UCUM.

Sources: Home Assistant's `homeassistant/const.py` (the spelling); RFC 8428, section 12.1, and RFC 8798 (SenML, primary
and secondary units); the Unified Code for Units of Measure (UCUM), c/s variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Quantity(NamedTuple):
    """One unit in three spellings. None: that register has no name for it, and the value goes without one."""

    unit: str
    senml: str | None
    ucum: str | None


_KNOWN = (
    # temperature, humidity, pressure
    Quantity("°C", "Cel", "Cel"),
    Quantity("°F", None, "[degF]"),
    Quantity("K", "K", "K"),
    Quantity("%", "/100", "%"),
    Quantity("Pa", "Pa", "Pa"),
    Quantity("hPa", "hPa", "hPa"),
    Quantity("kPa", None, "kPa"),
    Quantity("mbar", None, "mbar"),
    Quantity("bar", None, "bar"),
    Quantity("mmHg", None, "mm[Hg]"),
    Quantity("inHg", None, "[in_i'Hg]"),
    Quantity("psi", None, "[psi]"),
    # electricity
    Quantity("V", "V", "V"),
    Quantity("mV", "mV", "mV"),
    Quantity("A", "A", "A"),
    Quantity("mA", "mA", "mA"),
    Quantity("Ω", "Ohm", "Ohm"),
    Quantity("W", "W", "W"),
    Quantity("mW", None, "mW"),
    Quantity("kW", "kW", "kW"),
    Quantity("MW", None, "MW"),
    Quantity("VA", "VA", "V.A"),
    Quantity("kVA", "kVA", "kV.A"),
    Quantity("var", "var", None),
    Quantity("kvar", "kvar", None),
    Quantity("Ah", "Ah", "A.h"),
    Quantity("Hz", "Hz", "Hz"),
    Quantity("kHz", None, "kHz"),
    Quantity("MHz", "MHz", "MHz"),
    Quantity("GHz", None, "GHz"),
    # energy
    Quantity("J", "J", "J"),
    Quantity("kJ", None, "kJ"),
    Quantity("MJ", None, "MJ"),
    Quantity("GJ", None, "GJ"),
    Quantity("Wh", "Wh", "W.h"),
    Quantity("kWh", "kWh", "kW.h"),
    Quantity("MWh", None, "MW.h"),
    Quantity("varh", "varh", None),
    Quantity("kvarh", "kvarh", None),
    Quantity("kVAh", "kVAh", "kV.A.h"),
    Quantity("Wh/km", "Wh/km", "W.h/km"),
    # air
    Quantity("ppm", "ppm", "[ppm]"),
    Quantity("ppb", None, "[ppb]"),
    Quantity("μg/m³", "ug/m3", "ug/m3"),
    Quantity("mg/m³", None, "mg/m3"),
    Quantity("p/m³", None, "/m3"),
    # length, area, volume, flow
    Quantity("mm", "mm", "mm"),
    Quantity("cm", "cm", "cm"),
    Quantity("m", "m", "m"),
    Quantity("km", "km", "km"),
    Quantity("in", None, "[in_i]"),
    Quantity("ft", None, "[ft_i]"),
    Quantity("mi", None, "[mi_i]"),
    Quantity("m²", "m2", "m2"),
    Quantity("mL", None, "mL"),
    Quantity("L", "l", "L"),
    Quantity("m³", "m3", "m3"),
    Quantity("ft³", None, "[cft_i]"),
    Quantity("gal", None, "[gal_us]"),
    Quantity("L/min", None, "L/min"),
    Quantity("L/h", None, "L/h"),
    Quantity("m³/h", None, "m3/h"),
    Quantity("m³/s", "m3/s", "m3/s"),
    # mass, speed, rain, force
    Quantity("g", "g", "g"),
    Quantity("kg", "kg", "kg"),
    Quantity("mg", None, "mg"),
    Quantity("μg", None, "ug"),
    Quantity("t", None, "t"),
    Quantity("lb", None, "[lb_av]"),
    Quantity("oz", None, "[oz_av]"),
    Quantity("m/s", "m/s", "m/s"),
    Quantity("km/h", "km/h", "km/h"),
    Quantity("mph", None, "[mi_i]/h"),
    Quantity("kn", None, "[kn_i]"),
    Quantity("m/s²", "m/s2", "m/s2"),
    Quantity("mm/h", "mm/h", "mm/h"),
    Quantity("mm/d", None, "mm/d"),
    Quantity("N", "N", "N"),
    # light, sound, radio, angle, radiation, water
    Quantity("lx", "lx", "lx"),
    Quantity("lm", "lm", "lm"),
    Quantity("cd", "cd", "cd"),
    Quantity("W/m²", "W/m2", "W/m2"),
    Quantity("dB", "dB", "dB"),
    Quantity("dBm", "dBm", None),
    Quantity("°", "deg", "deg"),
    Quantity("rad", "rad", "rad"),
    Quantity("Bq", "Bq", "Bq"),
    Quantity("Sv", "Sv", "Sv"),
    Quantity("pH", "pH", "[pH]"),
    Quantity("S/m", "S/m", "S/m"),
    Quantity("μS/cm", None, "uS/cm"),
    # time, data, counting
    Quantity("μs", None, "us"),
    Quantity("ms", "ms", "ms"),
    Quantity("s", "s", "s"),
    Quantity("min", "min", "min"),
    Quantity("h", "h", "h"),
    Quantity("d", None, "d"),
    Quantity("rpm", None, "{revolutions}/min"),
    Quantity("bit", "bit", "bit"),
    Quantity("bit/s", "bit/s", "bit/s"),
    Quantity("Mbit/s", "Mbit/s", "Mbit/s"),
    Quantity("B", "B", "By"),
    Quantity("KiB", "KiB", "KiBy"),
    Quantity("MB", None, "MBy"),
    Quantity("GB", "GB", "GBy"),
    Quantity("B/s", "B/s", "By/s"),
    Quantity("MB/s", "MB/s", "MBy/s"),
)

QUANTITIES: Mapping[str, Quantity] = {one.unit: one for one in _KNOWN}

# What people write instead, where nothing else can be meant.
_OTHERWISE: Mapping[str, str] = {
    "degC": "°C",
    "deg C": "°C",
    "Cel": "°C",
    "Celsius": "°C",
    "celsius": "°C",
    "℃": "°C",
    "º": "°",
    "ºC": "°C",
    "degF": "°F",
    "℉": "°F",
    "percent": "%",
    "%RH": "%",
    "Ohm": "Ω",
    "ohm": "Ω",
    "Kwh": "kWh",
    "KWh": "kWh",
    "KWH": "kWh",
    "kwh": "kWh",
    "kW.h": "kWh",
    "kw": "kW",
    "KW": "kW",
    "ug/m3": "μg/m³",
    "ug/m³": "μg/m³",
    "μg/m3": "μg/m³",
    "mg/m3": "mg/m³",
    "m2": "m²",
    "m3": "m³",
    "m3/h": "m³/h",
    "m3/s": "m³/s",
    "l": "L",
    "l/min": "L/min",
    "l/h": "L/h",
    "lux": "lx",
    "PPM": "ppm",
    "hpa": "hPa",
    "kmh": "km/h",
    "kph": "km/h",
    "m/s2": "m/s²",
    "W/m2": "W/m²",
    "uS/cm": "μS/cm",
}

# The sign for a millionth has two code points that look alike; Home Assistant writes the Greek letter.
_MICRO_SIGN, _GREEK_MU = "\u00b5", "\u03bc"


def quantity(unit: str) -> Quantity | None:
    """Return what is known about a unit, whichever of the two signs for a millionth it is written with."""
    return QUANTITIES.get(unit.replace(_MICRO_SIGN, _GREEK_MU))


def spelling(unit: str) -> str | None:
    """Return how a unit is written, if `unit` is another way to write one that is known; else None."""
    return _OTHERWISE.get(unit.replace(_MICRO_SIGN, _GREEK_MU))
