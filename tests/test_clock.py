"""Whether the clock is set: each source, and the verdict over what they say; and the clock itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import JITTER, Clock
from gateway.timesync import RELEASED, Evidence, Sources, Sync, ask_kernel, verdict

NOW = RELEASED + 1e7


def test_a_clock_that_nobody_sets_is_taken_as_it_is() -> None:
    """In a container the kernel calls a clock unsynchronised for ever: that alone must not delay or mark anything."""
    assert verdict(Evidence(kernel=False), NOW, RELEASED) is Sync.UNKNOWN
    assert verdict(Evidence(), NOW, RELEASED) is Sync.UNKNOWN


def test_the_kernel_or_timesyncd_says_that_it_is_set() -> None:
    """One of them is enough; the other may not be there, or may not be asked."""
    assert verdict(Evidence(kernel=True), NOW, RELEASED) is Sync.SET
    assert verdict(Evidence(kernel=True, chrony=True), NOW, RELEASED) is Sync.SET
    assert verdict(Evidence(timesyncd=True), NOW, RELEASED) is Sync.SET
    assert verdict(Evidence(kernel=False, timesyncd=True), NOW, RELEASED) is Sync.SET


def test_a_daemon_that_has_not_answered_yet_is_waited_for() -> None:
    """Where somebody is there to set the clock, it is not set before that was done."""
    assert verdict(Evidence(kernel=False, timesyncd=False), NOW, RELEASED) is Sync.UNSET
    assert verdict(Evidence(timesyncd=False), NOW, RELEASED) is Sync.UNSET
    assert verdict(Evidence(kernel=False, chrony=True), NOW, RELEASED) is Sync.UNSET


def test_chrony_is_not_waited_for_where_nobody_can_say_that_it_is_done() -> None:
    """With the kernel silent (ProtectClock=), a chrony that runs would be waited for, and readings marked, for ever."""
    assert verdict(Evidence(kernel=None, chrony=True), NOW, RELEASED) is Sync.UNKNOWN


@given(
    found=st.builds(
        Evidence, st.sampled_from([None, False, True]), st.sampled_from([None, False, True]), st.booleans()
    ),
    wall=st.floats(-1e9, 5e9),
    known=st.floats(RELEASED, 3e9),
)
def test_a_clock_that_shows_what_is_over_is_wrong(found: Evidence, wall: float, known: float) -> None:
    """Nothing outweighs the release of the product; only who knows the time outweighs what the outbox has seen.

    Law: the verdict is never more favourable for an earlier time.
    """
    said = verdict(found, wall, known)
    if wall < RELEASED:
        assert said is Sync.UNSET
    elif wall < known:
        assert said is (Sync.SET if found.kernel or found.timesyncd else Sync.UNSET)
    favour = [Sync.UNSET, Sync.UNKNOWN, Sync.SET]
    assert favour.index(verdict(found, wall - 1000, known)) <= favour.index(said)


def test_each_source_is_asked_without_privileges(tmp_path: Path) -> None:
    """A daemon is there while its folder is; what timesyncd leaves says that it has set the clock."""
    asked = Sources(run=tmp_path, kernel=lambda: None)
    assert asked() == Evidence(None, None, False)
    (tmp_path / "chrony").mkdir()
    assert asked() == Evidence(None, None, True)
    folder = tmp_path / "systemd" / "timesync"
    folder.mkdir(parents=True)
    assert asked() == Evidence(None, False, True)
    (folder / "synchronized").touch()
    assert asked() == Evidence(None, True, True)


def test_a_folder_that_may_not_be_looked_into_says_nothing(tmp_path: Path) -> None:
    """A unit, or a distribution, may hide what is in /run: the service starts all the same."""
    (tmp_path / "systemd").symlink_to(tmp_path / "systemd")  # a loop: what root may not look into, either
    assert Sources(run=tmp_path, kernel=lambda: False)() == Evidence(False, None, False)


def test_the_kernel_of_this_machine_answers() -> None:
    """Asking changes nothing, needs no privilege, and gives a plain answer or none."""
    assert ask_kernel() in (True, False, None)
    assert Sources()() == Sources()()


@pytest.mark.parametrize("slip", [0.0, JITTER / 2, -JITTER / 2])
def test_the_jitter_of_reading_two_clocks_is_no_correction(slip: float) -> None:
    """The offset stays what it was until the clock is really corrected."""
    wall = [NOW]
    clock = Clock(boot=lambda: 100.0, wall=lambda: wall[0], boot_id="b")
    wall[0] += slip
    assert clock.read() == (100.0, NOW - 100.0)
    wall[0] += 0.05
    assert clock.read() == (100.0, pytest.approx(NOW - 100.0 + 0.05 + slip, abs=1e-6))
