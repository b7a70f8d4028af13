"""I²C devices that are lost while their bus stays, in each state in which they wait: off it, disturbed, hanging."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.testing import AdapterConformance, StandIn
from tests.adapters.chips import CHIPS, HangingStandIn, I2cStandIn, LooseStandIn, NoisyStandIn

CHECKED = ("scd4x", "sht")  # one that is put to rest at the end, and one that is not


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, LooseStandIn) for name in CHIPS),
        *((name, way) for name in CHECKED for way in (HangingStandIn, NoisyStandIn)),
    ],
)
def test_it_finds_its_device_again(name: str, way: type[I2cStandIn], tmp_path: Path) -> None:
    """A chip that is pulled off, that has wrong checksums, or that holds the clock costs no more than its readings."""
    made = way(tmp_path, name)

    class Suite(AdapterConformance):
        adapter = name

        def stand_in(self, folder: Path) -> StandIn:
            return made

    with made.bus:
        Suite().test_it_finds_its_device_again_when_it_is_lost_in_any_state(tmp_path)
        made.plug()  # lets go of whoever still waits
