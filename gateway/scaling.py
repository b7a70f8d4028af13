"""Numbers as devices write them, made what they mean: scaled without the noise of binary fractions."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite


def scaled(number: float, scale: float, offset: float = 0.0) -> float:
    """Return `number * scale + offset`, as a person would write it; a whole number stays one where neither changes it.

    217 * 0.1 is 21.700000000000003, and 217 / 10 is 21.7: a scale that is one part of a whole number divides.
    """
    if scale != 1.0:
        inverse = 1.0 / scale if 1e-15 < abs(scale) < 1.0 else 0.5
        parts = round(inverse)
        number = number / parts if abs(inverse - parts) <= 1e-9 * abs(inverse) else number * scale
    if not offset:
        return number
    total = number + offset
    return total if total in (number, offset) or not isfinite(total) else _sum(number, offset)


def _sum(number: float, offset: float) -> float:
    """Return the sum of two numbers as they are written: 61.7 - 40 is 21.700000000000003, and 21.7 is what is meant."""
    return float(Decimal(repr(number)) + Decimal(repr(offset)))
