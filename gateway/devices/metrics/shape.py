"""What a device gives, made fit to be taken in: the order of the steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.devices.metrics.plain import LONGEST_NAME, free, is_name, plain
from gateway.devices.metrics.plan import Plan
from gateway.devices.metrics.steps import Last, beyond, fitted, is_news, rounded
from gateway.reading import RESERVED, Value, Values

# What was taken in last, for the metrics that can be left out because they have hardly changed.
Known = Mapping[str, Last]


@dataclass(slots=True)
class Shaped:
    """What became of one reading's values."""

    values: dict[str, Value] = field(default_factory=dict)  # what can be taken in; may be empty
    faults: list[tuple[str, str]] = field(default_factory=list)  # reason and name of each value that was left out
    renamed: list[str] = field(default_factory=list)  # reserved names that got a trailing underscore
    withheld: bool = False  # something was left out on purpose: it has hardly changed, is dropped, or is in a window
    flagged: int = 0  # values beyond their limits that are published all the same
    windowed: dict[str, float] = field(default_factory=dict)  # what goes into windows
    known: dict[str, Last] = field(default_factory=dict)  # what is taken in now of metrics that can be left out
    made: list[str] = field(default_factory=list)  # formulas that were computed
    unmet: list[str] = field(default_factory=list)  # formulas of whose metrics the reading has none


def shape(values: Values, plan: Plan, known: Known, now: float) -> Shaped:
    """Return what becomes of `values`, `now` seconds after boot."""
    shaped = Shaped()
    found = _found(values, plan, shaped)
    if plan.computed:
        _compute(found, plan, shaped)
    if not plan.then:
        shaped.values = found
        return shaped
    for name, value in found.items():
        step = plan.then.get(name)
        if step is None:
            shaped.values[name] = value
            continue
        flag = beyond(value, step)
        if flag is not None and not step.flags:
            shaped.faults.append((f"{flag} what it can be", name))
        elif step.drops:
            shaped.withheld = True
        elif step.windowed:
            _into_window(name, value, flag, shaped)
        else:
            value = rounded(value, step.precision)
            if step.damps:
                if not is_news(value, flag, known.get(name), step, now):
                    shaped.withheld = True
                    continue
                shaped.known[name] = Last(value, now, flag)
            shaped.values[name] = value
            if flag is not None:
                shaped.flagged += 1
                shaped.values[_beside(f"{name}_outside", found)] = flag
    return shaped


def _found(values: Values, plan: Plan, shaped: Shaped) -> dict[str, Value]:
    """Return what is plain, by published names, in published units."""
    found: dict[str, Value] = {}
    for name, given in values.items():
        if not is_name(name):
            shaped.faults.append(("not a name for a metric", str(name)[:LONGEST_NAME]))
            continue
        try:
            value = plain(given)
            if name in RESERVED:
                shaped.renamed.append(name)
                name = free(name, values)
            step = plan.first.get(name)
            if step is not None:
                value = fitted(value, step)
                name = step.name
            if name in found:
                raise ValueError("a second value of that name")
        except ValueError as fault:
            shaped.faults.append((str(fault), name))
        else:
            found[name] = value
    return found


def _compute(found: dict[str, Value], plan: Plan, shaped: Shaped) -> None:
    """Add what is computed.

    A reading that has nothing of what a formula needs is of another kind, as those of a receiver with many sentences
    are; where it has only a part, something is wrong with the reading or with the formula.
    """
    for name, expression in plan.computed:
        try:
            value = plain(expression(found))
            step = plan.first.get(name)
            found[name] = value if step is None else fitted(value, step)
            shaped.made.append(name)
        except KeyError as missing:
            if expression.names.isdisjoint(found):
                shaped.unmet.append(name)
            elif not shaped.faults:  # else what is missing was a fault, and is counted as that
                shaped.faults.append((f'a formula needs "{missing.args[0]}", which is not in the reading', name))
        except ValueError as fault:
            found.pop(name, None)
            shaped.faults.append((str(fault), name))


def _into_window(name: str, value: Value, flag: str | None, shaped: Shaped) -> None:
    if isinstance(value, str):
        shaped.faults.append(("text, of which a window can make nothing", name))
        return
    shaped.windowed[name] = int(value) if isinstance(value, bool) else value
    shaped.withheld = True
    shaped.flagged += flag is not None


def _beside(name: str, found: Mapping[str, Value]) -> str:
    return free(name, found) if name in found else name
