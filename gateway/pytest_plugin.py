"""A plug-in of pytest that every environment with sensor-gateway has: it collects golden cases, where it is asked to.

    [tool.pytest.ini_options]
    sensor_gateway_cases = ["tests/cases"]

makes a test of each folder `tests/cases/<adapter>/<case>/`; `gateway/testing/cases.py` says what is in it. Without that
key the plug-in does nothing, and it imports nothing before it has to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

INI = "sensor_gateway_cases"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the key of the ini file. Called by pytest, once."""
    parser.addini(INI, "folders of golden cases of sensor-gateway: <adapter>/<case>/", type="paths", default=[])


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take a folder for a golden case if it is one. Called by pytest for each folder that it comes to."""
    folders: list[Path] = parent.config.getini(INI)
    if path.parent.parent not in folders:
        return None
    case: CaseFolder = CaseFolder.from_parent(parent, path=path)
    return case


class CaseFolder(pytest.Directory):
    """The folder of one golden case."""

    def collect(self) -> Iterator[CaseItem]:
        """Give the one test that it is."""
        item: CaseItem = CaseItem.from_parent(self, name="readings")
        yield item


class CaseItem(pytest.Item):
    """The test that the bytes of a case are read as it says, however they are cut."""

    def runtest(self) -> None:
        """Have the adapter read them. Raises AssertionError with what is not right."""
        from gateway.testing.cases import Case

        Case(self.path).check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *more: Any, **style: Any) -> Any:
        """Say what is not right of a case in its own words, and show the trace of any other error."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *more, **style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name it as its folder is."""
        return self.path, None, f"{self.path.parent.name}/{self.path.name}"
