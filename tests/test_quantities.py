"""Units: one spelling for each, and its name in SenML and UCUM."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway import Metric
from gateway.quantities import QUANTITIES, quantity, spelling

# RFC 8428, section 12.1, and RFC 8798: primary and secondary units; and what IANA has registered after them.
SENML = frozenset(
    """
    m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2 m3/s l/s W/m2
    cd/m2 bit bit/s lat lon pH dB dBW Bspl count / % %RH %EL EL 1/s 1/min beat/min beats S/m
    B VA VAs var vars J/m kg/m3 deg
    ms min h MHz kW kVA kvar Ah Wh kWh varh kvarh kVAh Wh/km KiB GB Mbit/s B/s MB/s mV mA dBm ug/m3 mm/h m/h ppm
    /100 /1000 hPa mm cm km km/h
    ppb ppt VAh mg/l ug/l g/l
    """.split()  # noqa: SIM905 - as the registry lists them
)


# What has no name in UCUM: reactive power, levels with another reference than its own, scales.
WITHOUT_UCUM = frozenset({"mvar", "var", "kvar", "varh", "kvarh", "dBm", "dBA", "thm", "Beaufort", "UV index"})
# A unit by UCUM's grammar: atoms with a power, or a remark alone, joined by dots and strokes.
ATOM = r"(?:%|10+|(?:[A-Za-z]+(?:\[[A-Za-z]+\])?|\[[A-Za-z0-9_']+\])[23]?|\{[a-z]+\})"
TERM = rf"{ATOM}(?:[./]{ATOM})*"
UCUM = re.compile(rf"/?{TERM}(?:/\({TERM}\))?")


def test_each_row_is_complete() -> None:
    """A unit is written once and plainly, and a register without a name for it is one that really has none."""
    for one in QUANTITIES.values():
        assert one.unit
        assert unicodedata.normalize("NFC", one.unit) == one.unit.strip() == one.unit
        assert "µ" not in one.unit, "the Greek letter, and not the sign for a millionth"
        assert one.senml != ""
        assert (one.ucum is None) == (one.unit in WITHOUT_UCUM)
        assert one.ucum is None or UCUM.fullmatch(one.ucum), one.ucum
        # What SenML has under the same name, it has for the same unit.
        assert one.senml is not None or one.unit not in SENML


def test_every_unit_of_our_examples_is_known() -> None:
    """Whoever starts from an example, or from a map of registers, gets units with names."""
    files = sorted((Path(__file__).parents[1] / "config").rglob("*.toml"))
    used = {unit for file in files for unit in re.findall(r'\bunit = "([^"]*)"', file.read_text())}
    assert len(used) > 10
    assert not {unit for unit in used if quantity(unit) is None}


def test_each_senml_name_is_registered() -> None:
    """No receiver gets a unit that SenML does not know."""
    assert {one.senml for one in QUANTITIES.values() if one.senml is not None} <= SENML


def test_no_two_units_are_one() -> None:
    """A name in SenML or UCUM leads back to one unit."""
    for names in ([one.senml for one in QUANTITIES.values()], [one.ucum for one in QUANTITIES.values()]):
        known = [name for name in names if name is not None]
        assert len(known) == len(set(known))


def test_ucum_names_are_plain_ascii() -> None:
    """UCUM is written in ASCII."""
    assert all(one.ucum.isascii() for one in QUANTITIES.values() if one.ucum is not None)


@pytest.mark.parametrize("unit", ["µg/m³", "μg/m³"])
def test_either_micro_sign_is_known(unit: str) -> None:
    """The two signs look alike, and no keyboard tells which one it types."""
    known = quantity(unit)
    assert known is not None
    assert (known.senml, known.ucum) == ("ug/m3", "ug/m3")


def test_a_spelling_that_is_meant_otherwise_is_one_of_those_that_are_known() -> None:
    """Nobody is told to write what is not known either, and nobody is told to write another thing than a known one."""
    from gateway.quantities import _OTHERWISE

    assert set(_OTHERWISE.values()) <= QUANTITIES.keys()
    assert not set(_OTHERWISE) & QUANTITIES.keys()


def test_another_spelling_is_refused_with_the_right_one_and_an_own_unit_is_not() -> None:
    """°C, not degC; whoever counts in sheep may."""
    with pytest.raises(ValidationError, match='must be "°C", not "degC"'):
        Metric(unit="degC")
    assert Metric(unit="sheep").unit == "sheep"
    assert spelling("°C") is None
    assert quantity("sheep") is None
