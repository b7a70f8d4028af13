"""Expressions: what they compute is what Python would, and what they may not contain is refused where it stands."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.expressions import DEEPEST, FUNCTIONS, LONGEST, Expression, ExpressionError

READING = {"voltage": 230.0, "current": 2, "on": True, "word": "x", "1.8.0": 7, "µ": 3}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("voltage * current / 1000", 0.46),
        ("-voltage + +current", -228.0),
        ("7 // current + 7 % 4", 6),
        ("current ** 3 - current ** -1", 7.5),
        ("voltage if on else 0", 230.0),
        ("voltage if not on else 0", 0),
        ("voltage > 200 and current >= 2 or missing", True),
        ("voltage < 200 and missing", False),
        ("max(voltage, current, 500) - min(1, 2)", 499),
        ("round(voltage / 7, 2)", 32.86),
        ("floor(2.7) + ceil(2.1) + round(2.6)", 8),
        ("sqrt(current * 8)", 4.0),
        ("'1.8.0' * 2", 14),
        ("µ * 2", 6),
        ("on * 5", 5),
        ("9007199254740993 + current", 9007199254740995),
    ],
)
def test_computes_what_it_says(text: str, result: Any) -> None:
    """Arithmetic, comparisons, choices and functions mean what they mean in Python; whole numbers stay exact."""
    assert Expression(text)(READING) == result


def test_knows_which_metrics_it_uses() -> None:
    """The config can be checked for what a formula needs."""
    assert Expression("max(a, b) if c > 1 else '1.8.0'").names == {"a", "b", "c", "1.8.0"}


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("voltage.real", 1),
        ("1 + voltage.__class__", 5),
        ("x[0]", 1),
        ("__import__('os')", 1),
        ("2 * open('x')", 5),
        ("().__class__", 1),
        ("[a]", 1),
        ("{a: 1}", 1),
        ("a, b", 1),
        ("lambda: 1", 1),
        ("f'{a}'", 1),
        ("(a := 1)", 2),
        ("[x for x in a]", 1),
        ("a + b'x'", 5),
        ("a + 1j", 5),
        ("a + None", 5),
        ("a + ...", 5),
        ("1e999", 1),
        ("a @ b", 1),
        ("a << 2", 1),
        ("a & b", 1),
        ("~a", 1),
        ("1 < a < 2", 1),
        ("a is b", 1),
        ("a in b", 1),
        ("µ + a ** b", 10),
        ("a ** 11", 6),
        ("a ** 0.5", 6),
        ("a ** -11", 6),
        ("(a ** 9) ** 9", 1),
        ("a ** 2 ** 2", 6),
        ("((a ** 2) * 1) ** 2", 1),
        ("a ** True", 6),
        ("min(a)", 1),
        ("sqrt()", 1),
        ("sqrt(a, b)", 1),
        ("min(*a, *b)", 5),
        ("round(a, ndigits=2)", 1),
        ("a.sqrt(2)", 1),
        ("1 +", 3),
        ("a b", 3),
        ("", 1),
        (" ", 1),
        (" a", 1),
        ("a\n+ b", 1),
        ("a\0", 1),
        ("a" * (LONGEST + 1), LONGEST + 1),
        ("-" * 200 + "a", DEEPEST + 1),
    ],
)
def test_what_it_may_not_contain_is_refused_where_it_stands(text: str, column: int) -> None:
    """No attribute, no call, no name but those that are listed; the column is that of the part that is wrong."""
    with pytest.raises(ExpressionError, match=f"column {column} of the expression") as caught:
        Expression(text)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / (current - 2)", "division by zero"),
        ("1 % (current - 2)", "division by zero"),
        ("(current - 2) ** -1", "division by zero"),
        ("sqrt(0 - current)", "math domain error"),
        ("log(current - 2)", "math domain error"),
        ("exp(voltage * 9)", "a result that is too large"),
        ("(voltage * 1e300) ** 9", "a result that is too large"),
        ("word + 1", "text, where an expression needs a number"),
        ("round(voltage, 99)", "round"),
        ("round(voltage, voltage)", "round"),
    ],
)
def test_what_cannot_be_computed_has_a_reason(text: str, reason: str) -> None:
    """A formula never raises anything but ValueError, which is counted, and KeyError for what the reading has not."""
    with pytest.raises(ValueError, match=reason):
        Expression(text)(READING)


def test_a_metric_that_is_missing_is_told_from_a_result_that_is_missing() -> None:
    """Not every reading has every metric, which is no fault."""
    with pytest.raises(KeyError):
        Expression("voltage * frequency")(READING)


_PARTS = st.recursive(
    st.sampled_from(["a", "b", "0", "1", "2.5", "True", "1e300", "9223372036854775807"]),
    lambda below: st.one_of(
        st.builds("({} {} {})".format, below, st.sampled_from(["+", "-", "*", "/", "//", "%", "<"]), below),
        st.builds("({}) ** {}".format, st.sampled_from(["a", "b"]), st.integers(-10, 10)),
        st.builds("-{}".format, below),
        st.builds("({} if {} else {})".format, below, below, below),
        st.builds("max({}, {})".format, below, below),
    ),
    max_leaves=12,
)


@given(_PARTS, st.floats(), st.integers(-(2**63), 2**63 - 1))
def test_computes_like_python(text: str, a: float, b: int) -> None:
    """Whatever is made of the parts has Python's own result, or none where Python has none."""
    if len(text) > LONGEST:
        return
    try:
        wanted = eval(text, {"max": max}, {"a": a, "b": b})
    except (ZeroDivisionError, OverflowError, ValueError):
        with pytest.raises(ValueError, match=r"division by zero|too large"):
            Expression(text)({"a": a, "b": b})
    else:
        found = Expression(text)({"a": a, "b": b})
        assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@given(st.text(max_size=LONGEST + 5) | st.text("ab12.+-*/%()<>=,'\"[]{}:_ \\#@!~^&|", max_size=LONGEST + 5))
def test_noise_is_refused_or_computed(text: str) -> None:
    """Parsing raises nothing but ExpressionError, whose column is in the text; computing nothing but the two errors."""
    refused: ExpressionError | None = None
    try:
        result = Expression(text)({"a": 1, "b": 2.5})
    except ExpressionError as error:
        refused = error
    except (KeyError, ValueError):
        pass
    else:
        assert isinstance(result, bool | int | float)
    assert refused is None or 1 <= refused.column <= max(len(text), 1)


def test_no_formula_takes_long() -> None:
    """The most expensive things that fit into the longest formula are computed in no time, however the base is."""
    worst = [
        "*".join(["a**10"] * 35),
        "-".join(["a**10*a**10"] * 20),
        "9" * 120 + "**10 // " + "7" * 100,
        "max(" + ",".join(["a**10"] * 20) + ")",
    ]
    expressions = [Expression(text) for text in worst]
    began = time.process_time()
    for expression in expressions:
        for _ in range(100):
            expression({"a": 2**63 - 1})
    assert time.process_time() - began < 20  # some milliseconds; what is forbidden takes hours


def test_functions_have_arguments_as_they_are_listed() -> None:
    """Each function can be called with the fewest and with the most arguments that it is said to take."""
    for name, (_, least, most) in FUNCTIONS.items():
        for count in {least, most}:
            arguments = ", ".join(["1"] * count)
            assert isinstance(Expression(f"{name}({arguments})")({}), int | float)
