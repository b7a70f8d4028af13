"""The thermometer is an adapter like any other, and reads what it should."""

from pathlib import Path

import pytest
from thermometer import Thermometer

from gateway.testing import AdapterConformance, SerialStandIn


class TestThermometer(AdapterConformance):
    adapter = "thermometer"

    def stand_in(self, folder: Path) -> SerialStandIn:
        return SerialStandIn(folder, says=b"T=21.5\r\n")


@pytest.mark.parametrize("frame", [b"", b"T=", b"T=warm", b"H=40"])
def test_what_is_no_line_of_it_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a line|could not convert"):
        Thermometer(port="/dev/null").decode(frame)
