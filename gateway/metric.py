"""What is declared once about one named quantity of a device: the keys of `[devices.<name>.metrics.<metric>]`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.expressions import LONGEST, Expression, ExpressionError
from gateway.quantities import spelling
from gateway.refusals import Conflict, refuse, refuse_together
from gateway.units import Duration

Kind: TypeAlias = Literal["measurement", "total", "total_increasing", "binary", "enum", "text", "event"]
Aggregate: TypeAlias = Literal["mean", "min", "max", "last", "count", "rate"]

PERCENT_PATTERN = r"^[0-9]{1,3}(?:\.[0-9]{1,9})?%$"

# Keys that are about numbers, and keys that are about changes.
_FOR_NUMBERS = ("scale", "offset", "precision", "min", "max", "outside", "deadband")
_FOR_CHANGES = ("deadband", "on_change", "max_silence")


def _unit(unit: str) -> str:
    if written := spelling(unit):
        raise refuse("unit", f'must be "{written}", not "{unit}": units are written as Home Assistant writes them')
    return unit


def _deadband(value: Any) -> float | str:
    if isinstance(value, str):
        if re.fullmatch(PERCENT_PATTERN, value) and value != "0%":
            return value
        raise refuse("deadband", 'must be a number, or a part of the value such as "2%"')
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse("deadband", 'must be a number, or a part of the value such as "2%"')
    if value < 0:
        raise refuse("deadband", "must be at least 0")
    if not value < float("inf"):
        raise refuse("deadband", "must be a finite number")
    return float(value)


def _formula(text: str) -> str:
    try:
        Expression(text)
    except ExpressionError as error:
        raise refuse("expression", str(error)) from None
    return text


Unit: TypeAlias = Annotated[str, AfterValidator(_unit)]

# A number, or a string such as "2%".
Deadband: TypeAlias = Annotated[
    float | str,
    BeforeValidator(_deadband),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": PERCENT_PATTERN}]}),
]

# The text of an expression that parses.
Formula: TypeAlias = Annotated[
    str, AfterValidator(_formula), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST})
]


class Metric(BaseModel):
    """What is declared once about one named quantity of a device: `[devices.<name>.metrics.<metric>]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: Unit | None = Field(
        default=None, description="Unit of the published value, as Home Assistant writes it: °C, kWh, µg/m³."
    )
    kind: Kind | None = Field(
        default=None,
        description="What it is. binary: becomes true or false; enum: one of options; text: becomes text; "
        "the others say it for receivers.",
    )
    options: list[str] | None = Field(default=None, min_length=1, description='The values of a metric of kind "enum".')
    settable: bool = Field(default=False, description="true: commands may set it, if the device can.")
    rename: str | None = Field(default=None, description="The name under which it is published.")
    scale: float = Field(default=1.0, description="Multiply the device's number by this.")
    offset: float = Field(default=0.0, description="Add this after scaling.")
    precision: int | None = Field(
        default=None, ge=0, le=15, description="Digits after the decimal point; 0: a whole number."
    )
    min: float | None = Field(default=None, description="The least that can be true, in the published unit.")
    max: float | None = Field(default=None, description="The most that can be true, in the published unit.")
    outside: Literal["drop", "flag"] = Field(
        default="drop",
        description="What becomes of a value beyond min or max; counted either way. "
        '"flag": it is published, with <metric>_outside = "below" or "above" beside it.',
    )
    drop: bool = Field(default=False, description="true: not published; computed metrics may use it.")
    deadband: Deadband = Field(
        default=0.0,
        description="Leave the metric out while it differs by less than this from the value last taken in; "
        'a number, or a part of that value such as "2%".',
    )
    on_change: bool = Field(default=False, description="true: leave the metric out while it stays the same.")
    max_silence: Duration | None = Field(
        default=None, gt=0, description="With deadband or on_change: after so long it is published all the same."
    )
    window: Duration | None = Field(
        default=None, ge=0.1, description="Publish, instead of each value, what the values of such a span come to."
    )
    aggregate: list[Aggregate] = Field(
        default=["mean"], min_length=1, description="What is published of a window, each as <metric>_<aggregate>."
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if conflicts := list(_conflicts(self)):
            raise refuse_together(conflicts)
        return self


def _conflicts(metric: Metric) -> list[Conflict]:
    """Find keys that do not go together, of which one would do nothing or something else than it seems."""
    fields, kind = type(metric).model_fields, metric.kind
    found: dict[str, tuple[str, str]] = {}  # for each key, the one that it does not go with, and why

    def refused(keys: tuple[str, ...], other: str, why: str) -> None:
        for key in keys:
            if getattr(metric, key) != fields[key].default:
                found.setdefault(key, (other, f"{key}: {why}"))

    if kind in ("binary", "enum", "text"):
        refused(_FOR_NUMBERS, "kind", f'is for numbers, and kind is "{kind}"')
    if kind in ("enum", "text", "event"):
        refused(("window",), "kind", f'needs numbers to count with, and kind is "{kind}"')
    if kind == "event":
        refused(_FOR_CHANGES, "kind", 'would leave events out, and kind is "event"')
    if kind != "enum":
        refused(("options",), "kind", 'is for kind = "enum"')
    if metric.min is not None and metric.max is not None and metric.min > metric.max:
        found.setdefault("min", ("max", "min: is above max"))
    if metric.min is None and metric.max is None:
        refused(("outside",), "min", "there is neither min nor max to be outside of")
    if not metric.deadband and not metric.on_change:
        refused(("max_silence",), "deadband", "is for deadband or on_change")
    if metric.window is None:
        refused(("aggregate",), "window", "is for a window")
    else:
        refused(_FOR_CHANGES, "window", "does not go with window, which publishes once each time")
    if metric.drop:
        refused((*_FOR_CHANGES, "precision", "window", "settable"), "drop", "is for what is published; drop is true")
    return [Conflict((key,), (key, other), message) for key, (other, message) in found.items()]
