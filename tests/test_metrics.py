"""Metrics: what is declared once about each is applied to every reading, in one order."""

from __future__ import annotations

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import Adapter, Device, Metric
from gateway.config import load
from gateway.config.metrics import conflicts
from gateway.devices import LONGEST_TEXT, plan, shape
from gateway.devices.metrics import Last, Shaped, is_plain
from gateway.devices.metrics.steps import is_news
from gateway.expressions import FUNCTIONS
from gateway.quantities import QUANTITIES
from tests.adapters.notebook import Notebook


class Nothing(Adapter):
    """A device whose readings the test emits itself."""

    async def run(self, device: Device) -> None:
        await asyncio.Event().wait()


class Clock:
    """Seconds since boot, which stand until they are moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def shaped(values: dict[str, Any], computed: dict[str, str] | None = None, **metrics: Metric) -> Shaped:
    """Return what becomes of a first reading."""
    return shape(values, plan(metrics, computed), {}, 0.0)


# ---- one value


def test_offset_is_added_after_scaling() -> None:
    """Fahrenheit in tenths becomes Celsius: in the published unit, the offset is what it says."""
    assert shaped({"t": 320}, t=Metric(scale=1 / 18, offset=-17.75)).values["t"] == pytest.approx(320 / 18 - 17.75)
    assert shaped({"t": 217}, t=Metric(scale=0.1, offset=-1.5)).values == {"t": 20.2}
    assert shaped({"t": 1e308}, t=Metric(scale=1.7, offset=1e308)).faults == [("not a finite number", "t")]


@pytest.mark.parametrize(
    ("given", "precision", "published"),
    [(21.4567, 1, 21.5), (21.4567, 0, 21), (21, 2, 21), (-0.04, 1, -0.0), (1e300, 0, 1e300), (0.1 + 0.2, 15, 0.3)],
)
def test_precision_rounds_fractions(given: float, precision: int, published: float) -> None:
    """Digits that mean nothing are not sent; with none left, it is a whole number, unless it is too large for one."""
    found = shaped({"t": given}, t=Metric(precision=precision)).values["t"]
    assert (found, type(found)) == (published, type(published))


@pytest.mark.parametrize(
    ("kind", "given", "published"),
    [
        ("binary", 1, True),
        ("binary", 0.0, False),
        ("binary", "ON", True),
        ("binary", " off ", False),
        ("binary", "no", False),
        ("binary", True, True),
        ("binary", 2, None),
        ("binary", "perhaps", None),
        ("text", 7, "7"),
        ("text", 7.5, "7.5"),
        ("text", True, "true"),
        ("text", "x", "x"),
        ("enum", "idle", "idle"),
        ("enum", 3, "3"),
        ("enum", "odd", None),
        ("measurement", "x", "x"),
        ("total", True, True),
        ("event", "x", "x"),
    ],
)
def test_kind_makes_what_it_says_or_leaves_it_out(kind: Any, given: Any, published: Any) -> None:
    """A binary is true or false, an enum one of its options, a text is text; the other kinds change nothing."""
    options = {"options": ["idle", "3"]} if kind == "enum" else {}
    found = shaped({"m": given}, m=Metric(kind=kind, **options))
    assert found.values == ({} if published is None else {"m": published})
    assert type(found.values.get("m")) is type(published)
    assert len(found.faults) == (published is None)


def test_what_is_beyond_the_limits_is_left_out_or_flagged_and_counted_either_way() -> None:
    """A limit itself is inside; the flag stands beside the value, and takes no other metric's name."""
    dropping, flagging = Metric(min=0, max=100), Metric(min=0, max=100, outside="flag")
    for value, flag in [(-0.1, "below"), (0, None), (100, None), (100.1, "above")]:
        dropped, flagged = shaped({"h": value, "x": 1}, h=dropping), shaped({"h": value}, h=flagging)
        assert dropped.values == ({"x": 1} if flag else {"h": value, "x": 1})
        assert dropped.faults == ([(f"{flag} what it can be", "h")] if flag else [])
        assert flagged.values == ({"h": value, "h_outside": flag} if flag else {"h": value})
        assert (flagged.faults, flagged.flagged) == ([], int(flag is not None))
    assert shaped({"h": 200, "h_outside": 1}, h=flagging).values == {"h": 200, "h_outside": 1, "h_outside_": "above"}
    assert shaped({"h": "wet", "x": True}, h=dropping, x=Metric(min=5)).values == {"h": "wet", "x": True}


def test_limits_are_in_the_published_unit_and_judge_before_rounding() -> None:
    """-40 to 125 °C are meant, whatever the device counts in; 125.04 is beyond 125, although it would round to it."""
    metric = Metric(scale=0.01, min=-40, max=125, precision=1)
    assert shaped({"t": 12500}, t=metric).values == {"t": 125.0}
    assert shaped({"t": 12504}, t=metric).values == {}


def test_a_metric_is_published_under_its_new_name_and_never_twice() -> None:
    """Two values of one name are no reading; the first stays, the other is counted."""
    assert shaped({"T1": 210, "x": 1}, T1=Metric(rename="flow", scale=0.1)).values == {"flow": 21.0, "x": 1}
    twice = shaped({"T1": 21, "flow": 5}, T1=Metric(rename="flow"))
    assert (twice.values, twice.faults) == ({"flow": 21}, [("a second value of that name", "flow")])


async def test_what_is_dropped_is_not_sent_and_is_no_fault() -> None:
    """A reading of which nothing is left by intention is neither taken in nor skipped."""
    notes = Notebook()
    device = notes.device("d", Nothing(), {"raw": Metric(drop=True)})
    await device.emit({"raw": 1, "t": 2})
    await device.emit({"raw": 1})
    assert notes.of("d") == [{"t": 2}]
    assert (device.taken_in, device.unchanged, device.skipped) == (1, 1, {})


# ---- changes


def test_a_part_of_the_value_is_a_deadband_too() -> None:
    """2% of 50 is 1: 50.9 is not news, 51 is; of 0, every change is."""
    step = plan({"p": Metric(deadband="2%")}).then["p"]
    for before, value, news in [
        (50, 50.9, False),
        (50, 51, True),
        (-50, -49.1, False),
        (0, 0.001, True),
        (0, 0, False),
    ]:
        assert is_news(value, None, Last(before, 0.0, None), step, 1.0) is news, (before, value)


@pytest.mark.parametrize(
    ("before", "value", "news"),
    [
        (1, 1, False),
        (1, 1.0, False),
        (1, 2, True),
        (True, 1, True),
        ("a", "a", False),
        ("a", "b", True),
        (0, False, True),
    ],
)
def test_on_change_leaves_out_what_stays_the_same(before: Any, value: Any, news: bool) -> None:
    """Numbers, text, true and false; true is not the number 1."""
    assert is_news(value, None, Last(before, 0.0, None), plan({"m": Metric(on_change=True)}).then["m"], 1.0) is news


async def test_after_max_silence_it_is_sent_all_the_same() -> None:
    """A receiver can tell a value that stays from a device that is gone; the silence begins with what was sent last."""
    notes, boot = Notebook(), Clock()
    device = notes.device("d", Nothing(), {"t": Metric(deadband=1, max_silence=60)}, boot=boot)
    sent = []
    for now, value in [(0, 20), (30, 20.5), (59.9, 20.9), (60, 20.9), (90, 21), (119, 21.8), (120, 21.8), (121, 23)]:
        boot.now = 1000.0 + now
        before = len(notes.readings)
        await device.emit({"t": value})
        if len(notes.readings) > before:
            sent.append((now, value))
    assert sent == [(0, 20), (60, 20.9), (120, 21.8), (121, 23)]


def test_coming_back_inside_the_limits_is_news() -> None:
    """A deadband does not hide that a value has crossed a limit."""
    metrics = plan({"t": Metric(max=100, outside="flag", deadband=5)})
    assert shape({"t": 101}, metrics, {"t": Last(99, 0.0, None)}, 1.0).values == {"t": 101, "t_outside": "above"}
    assert shape({"t": 99}, metrics, {"t": Last(101, 0.0, "above")}, 1.0).values == {"t": 99}


def test_changes_are_judged_by_what_is_published() -> None:
    """A digit that precision takes away is no change."""
    metrics = plan({"t": Metric(precision=0, on_change=True)})
    assert shape({"t": 21.4}, metrics, {"t": Last(21, 0.0, None)}, 1.0) == Shaped(withheld=True)


# ---- computed


def test_a_formula_sees_published_names_and_units_and_what_is_dropped() -> None:
    """It is computed after scale and rename, before anything is left out, rounded or waits in a window."""
    found = shaped(
        {"U": 2300, "I": 1.23456, "t": 300},
        {"power": "voltage * current", "kilo": "power / 1000", "hot": "t > 200"},
        U=Metric(rename="voltage", scale=0.1, drop=True),
        I=Metric(rename="current", precision=1),
        t=Metric(max=250),
        power=Metric(precision=2),
    )
    assert found.values == {"current": 1.2, "power": 283.95, "kilo": 230 * 1.23456 / 1000, "hot": True}
    assert found.faults == [("above what it can be", "t")]


@pytest.mark.parametrize(
    ("values", "published", "faults"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 0.5}, []),
        ({"a": 1}, {"a": 1}, [('a formula needs "b", which is not in the reading', "c")]),
        ({"z": 1}, {"z": 1}, []),
        ({"a": 1, "b": 0}, {"a": 1, "b": 0}, [("division by zero", "c")]),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "x"}, [("text, where an expression needs a number", "c")]),
        ({"a": 1e308, "b": 1e-10}, {"a": 1e308, "b": 1e-10}, [("not a finite number", "c")]),
        ({"a": 1, "b": math.nan}, {"a": 1}, [("not a finite number", "b")]),
        ({"a": 1, "b": 0, "c": 9}, {"a": 1, "b": 0}, [("division by zero", "c")]),
    ],
)
def test_what_cannot_be_computed_is_left_out_and_counted(values: Any, published: Any, faults: Any) -> None:
    """The rest of the reading goes on; a formula whose metrics are there in part is a fault, and one of none is not."""
    found = shaped(values, {"c": "a / b"})
    assert (found.values, found.faults) == (published, faults)


async def test_a_device_with_formulas_computes_them_each_time() -> None:
    """The short way, which readings of nothing new take, leaves no formula out."""
    notes = Notebook()
    device = notes.device("d", Nothing(), computed={"c": "a * 2"})
    for a in (1, 2, 3):
        await device.emit({"a": a})
    assert notes.of("d") == [{"a": 1, "c": 2}, {"a": 2, "c": 4}, {"a": 3, "c": 6}]


async def test_a_formula_of_which_nothing_ever_comes_is_counted() -> None:
    """A misspelt metric is told, and readings of another kind are not, once the formula was computed."""
    notes = Notebook()
    device = notes.device("d", Nothing(), computed={"c": "a * 2", "e": "o * 2"})
    for values in ({"z": 1}, {"a": 1}, {"z": 2}, {"z": 3}):
        await device.emit(values)
    assert notes.of("d") == [{"z": 1}, {"a": 1, "c": 2}, {"z": 2}, {"z": 3}]
    assert device.skipped == {"a formula of whose metrics no reading has had any": 1 + 4}


def test_names_may_be_swapped() -> None:
    """A formula means what is published under a name, also where the device calls another metric so."""
    metrics = {"a": Metric(rename="b"), "b": Metric(rename="a")}
    assert conflicts(metrics, {"c": "a - b"}) == []
    assert shaped({"a": 1, "b": 5}, {"c": "a - b"}, **metrics).values == {"b": 1, "a": 5, "c": 4}


# ---- whatever comes

_VALUES = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.none())
_METRICS = st.builds(
    dict,
    scale=st.sampled_from([1.0, 0.1, 1e300, -3.0]),
    offset=st.sampled_from([0.0, 1e308, -2.5]),
    precision=st.sampled_from([None, 0, 3]),
    min=st.sampled_from([None, -5.0]),
    max=st.sampled_from([None, 5.0]),
    deadband=st.sampled_from([0.0, 1.0, "2%"]),
    on_change=st.booleans(),
    rename=st.sampled_from([None, "b", "x"]),
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "seq", "word"]), _VALUES),
    st.dictionaries(st.sampled_from(["a", "b", "seq_"]), _METRICS),
    st.lists(st.sampled_from(["a / b", "exp(a)", "a ** 9 * b", "x - a"]), max_size=2),
)
def test_nothing_passes_that_cannot_be_carried_and_nothing_is_lost_without_a_word(
    values: dict[str, Any], declared: dict[str, Any], formulas: list[str]
) -> None:
    """Whatever is declared: what is published is finite and plain, and what is not was left out for a reason."""
    metrics = {name: Metric(**keys) for name, keys in declared.items()}
    computed = {f"c{n}": text for n, text in enumerate(formulas)}
    found = shape(values, plan(metrics, computed), {}, 0.0)
    assert (
        is_plain(found.values, set(found.values))
        or any(
            isinstance(value, str) and not value.isascii() and len(value) <= LONGEST_TEXT
            for value in found.values.values()
        )
        or not found.values
    )
    own = [name for name in found.values if name not in computed]
    faults = [name for _, name in found.faults if name not in computed]
    assert len(own) + len(faults) == len(values)


# ---- what does not go together


@pytest.mark.parametrize(
    "keys",
    [
        {"min": 2, "max": 1},
        {"outside": "flag"},
        {"kind": "text", "scale": 2},
        {"kind": "enum", "window": 10},
        {"kind": "binary", "deadband": 1},
        {"kind": "event", "on_change": True},
        {"options": ["a"]},
        {"options": [], "kind": "enum"},
        {"max_silence": 60},
        {"aggregate": ["max"]},
        {"aggregate": [], "window": 10},
        {"window": 10, "deadband": 1},
        {"window": 0.01},
        {"drop": True, "window": 10},
        {"deadband": "2"},
        {"deadband": "0%"},
        {"deadband": True},
        {"precision": 16},
        {"kind": "gauge"},
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any]) -> None:
    """A key that would do nothing, or something else than it seems, is found when the config is read."""
    with pytest.raises(ValidationError):
        Metric(**keys)


def test_a_key_at_its_default_does_no_harm() -> None:
    """Whoever writes a default out has said nothing new."""
    Metric(kind="text", scale=1.0, drop=False, max_silence=None, on_change=False, deadband=0)


# ---- the page

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "metrics.md").read_text()


def rows(head: str) -> list[list[str]]:
    """Return the cells of the table of the page that begins so."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


def test_the_page_has_every_key_with_its_default() -> None:
    """Whoever reads the page knows all that can be declared."""
    shown = {key.strip("` "): default for keys, default, _ in rows("key | default") for key in keys.split(",")}
    wanted = {}
    for key, field in Metric.model_fields.items():
        wanted[key] = "" if field.default is None else f"`{json.dumps(field.default)}`"
    assert shown == wanted


def test_the_page_has_every_unit() -> None:
    """The table of units is the one that the gateway has."""
    assert rows("unit | SenML") == [[one.unit, one.senml or "", one.ucum or ""] for one in QUANTITIES.values()]


def test_the_page_has_every_function() -> None:
    """What may be called is listed."""
    assert f"`{' '.join(sorted(FUNCTIONS))}`" in PAGE


def test_what_the_page_shows_is_a_config(tmp_path: Path) -> None:
    """Its examples load, and the dew point comes out right."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "gateway.toml"
    path.write_text('[uplinks.c]\nbrokers = ["mqtt://a"]\n[devices.air]\nadapter = "simulator"\n' + "\n".join(blocks))
    devices = load(path, environ={"HOME": "/"}).devices
    air, meter = (plan(devices[name].metrics, devices[name].computed) for name in ("air", "meter"))
    assert shape({"temperature": 25, "humidity": 50}, air, {}, 0.0).values["dew_point"] == 13.9
    found = shape({"U": 2700, "I": 2.0}, meter, {}, 0.0)
    assert found.values == {"voltage": 270.0, "voltage_outside": "above", "current": 2.0}
    assert found.windowed == {"power": 540.0}
