"""The conformance suite over all adapters of a package, so that none of them is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway import registry
from gateway.testing.cases import Case, cases_of
from gateway.testing.conformance import AdapterConformance
from gateway.testing.stand_in import StandIn


def suites(
    distribution: str, stand_ins: Mapping[str, Callable[[Path], StandIn]] | None = None, cases: Path | None = None
) -> dict[str, type[AdapterConformance]]:
    """Return the tests of every adapter that an installed distribution registers, to be put into a module of tests:

        globals().update(suites("sensor-gateway-thermometer", {"thermometer": thermometer}, CASES))

    `stand_ins` says by adapter what makes its stand-in in a folder. An adapter on a serial port that is not in there
    hears what its first golden case in the folder `cases` says that has nothing to be thrown away. Raises LookupError
    if there is no such distribution, or nothing stands in for the device of one of its adapters.
    """
    makers = dict(stand_ins or {})
    names = registry.names(distribution)
    if not names:
        raise LookupError(f"{distribution} registers no adapter; is it installed?")
    for name in names:
        if name not in makers and cases is not None and (case := _sound(name, cases)) is not None:
            makers[name] = case.stand_in
    if left_out := [name for name in names if name not in makers]:
        raise LookupError(f"nothing stands in for the device of: {', '.join(left_out)}")
    return {f"Test_{name.replace('-', '_')}": _suite(name, makers[name]) for name in names}


def _sound(name: str, cases: Path) -> Case | None:
    return next((case for case in cases_of(name, cases) if not case.skipped), None)


def _suite(name: str, make: Callable[[Path], StandIn]) -> type[AdapterConformance]:
    """Return the tests of one adapter, named so that a failure says which one."""
    inside: dict[str, Any] = {"adapter": name, "stand_in": lambda self, folder: make(folder)}
    return type(f"Test[{name}]", (AdapterConformance,), inside)
