"""Values that every format can carry: plain, finite, bounded. Pure."""

from __future__ import annotations

from math import inf

from gateway.reading import Value, Values

LONGEST_NAME = 128  # characters of a metric's name
LONGEST_TEXT = 1024  # characters of a text value
LOWEST, HIGHEST = -(2**63), 2**63 - 1  # what every payload format can carry as an integer
NOT_FINITE = "not a finite number"


def is_name(name: object) -> bool:
    """Say whether a metric can be called so."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()


def plain(value: object) -> Value:
    """Return `value` as a bool, an int of 64 bits, a finite float or a str. Raises ValueError with the reason."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if LOWEST <= value <= HIGHEST:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            raise ValueError(NOT_FINITE) from None
    if isinstance(value, float):
        if -inf < value < inf:
            return float(value)
        raise ValueError(NOT_FINITE)
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"text longer than {LONGEST_TEXT} characters")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("text that is not Unicode") from None
        return str.__str__(value)
    raise ValueError("neither number nor text nor true or false")


def free(name: str, values: Values) -> str:
    """Return the name under which a reserved one is published: with as many underscores as it takes."""
    while (name := name + "_") in values:
        pass
    return name


def is_plain(values: Values, names: set[str]) -> bool:
    """Say whether `shape` would return `values` as they are. Hot: once for each reading.

    `names` are those that are good and need nothing.
    """
    for name, value in values.items():
        if name not in names:
            return False
        kind = type(value)
        if kind is float:
            if not -inf < value < inf:  # type: ignore[operator]
                return False
        elif kind is int:
            if not LOWEST <= value <= HIGHEST:  # type: ignore[operator]
                return False
        elif kind is not bool and (kind is not str or len(value) > LONGEST_TEXT or not value.isascii()):  # type: ignore[arg-type, union-attr]
            return False
    return bool(values)
