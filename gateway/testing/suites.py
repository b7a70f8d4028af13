"""The conformance suite over all adapters of a package, so that none of them is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway import registry
from gateway.testing.cases import cases_of
from gateway.testing.conformance import AdapterConformance
from gateway.testing.stand_in import StandIn


def suites(
    distribution: str, stand_ins: Mapping[str, Callable[[Path], StandIn]] | None = None, cases: Path | None = None
) -> dict[str, type[AdapterConformance]]:
    """Return the tests of every adapter that an installed distribution registers, to be put into a module of tests:

        globals().update(suites("sensor-gateway-thermometer", {"thermometer": thermometer}, CASES))

    `stand_ins` says by adapter what makes its stand-in in a folder. An adapter on a serial port that is not in there
    hears what its first golden case in the folder `cases` says that has nothing to be thrown away. The tests of one for
    which there is neither fail. Raises LookupError if no such distribution with adapters is installed.
    """
    names = registry.names(distribution)
    if not names:
        raise LookupError(f"{distribution} registers no adapter; is it installed?")
    makers = {name: (stand_ins or {}).get(name) or _by_case(name, cases) for name in names}
    return {f"Test_{name.replace('-', '_')}": _suite(name, make) for name, make in makers.items()}


def _by_case(name: str, cases: Path | None) -> Callable[[Path], StandIn]:
    if cases is not None:
        for case in cases_of(name, cases):
            if not case.skipped:
                return case.stand_in

    def missing(folder: Path) -> StandIn:
        raise AssertionError(f"nothing stands in for the device of {name}: neither a stand-in nor a golden case")

    return missing


def _suite(name: str, make: Callable[[Path], StandIn]) -> type[AdapterConformance]:
    """Return the tests of one adapter, named so that a failure says which one."""
    inside: dict[str, Any] = {"adapter": name, "stand_in": lambda self, folder: make(folder)}
    return type(f"Test[{name}]", (AdapterConformance,), inside)
