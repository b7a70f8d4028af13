"""Whether the clock is set: each source, and the verdict over what they say; and the clock itself."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import JITTER, Clock
from gateway.timesync import RELEASED, Evidence, Sources, Sync, ask_kernel, verdict

NOW = RELEASED + 1e7
UNIT = Path(__file__).parents[1] / "deploy" / "systemd" / "sensor-gateway.service"
ASK = """
import os
from gateway.timesync import ask_kernel
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)  # and with it all capabilities
print(ask_kernel())
"""
REFUSE = """
import ctypes, struct, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
def op(code, jt, jf, k): return struct.pack("=HBBI", code, jt, jf, k)
calls = [int(one) for one in sys.argv[1:]]
# Load the number of the call; for each of those: return EPERM; else let it pass.
code = op(0x20, 0, 0, 0) + b"".join(op(0x15, 0, 1, one) + op(0x06, 0, 0, 0x00050001) for one in calls)
code += op(0x06, 0, 0, 0x7FFF0000)
filter = ctypes.create_string_buffer(code)
class Program(ctypes.Structure): _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))
program = Program(len(code) // 8, ctypes.addressof(filter))
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
"""
"""What ProtectClock= in a unit does: a seccomp filter (man 2 seccomp) that refuses the calls named as arguments."""
CLOCK_CALLS = {"x86_64": (159, 305), "aarch64": (171, 266)}
"""The numbers of adjtimex and clock_adjtime (the kernel's system call tables)."""


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


def answer_of(words: str, *arguments: str) -> str:
    """Return what a process without privileges prints."""
    done = subprocess.run([sys.executable, "-c", words, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_kernel_is_asked_without_privileges() -> None:
    """Asking changes nothing, so anybody may; the answer is the same as root's."""
    said = ask_kernel()
    if said is None:
        pytest.skip("this sandbox lets nobody ask")
    assert answer_of(ASK) == str(said)


@pytest.mark.skipif(platform.machine() not in CLOCK_CALLS, reason="the numbers of its system calls are not known here")
def test_a_kernel_that_may_not_be_asked_says_nothing() -> None:
    """Under a unit with ProtectClock= the call is refused, which is no answer, and no error."""
    assert answer_of(REFUSE + ASK, *map(str, CLOCK_CALLS[platform.machine()])) == "None"


def test_the_unit_lets_the_kernel_be_asked(tmp_path: Path) -> None:
    """It takes everything away from the service that it does not need, and not this."""
    lines = UNIT.read_text().splitlines()
    assert not any(line.startswith("ProtectClock=") for line in lines)
    assert "CapabilityBoundingSet=" in lines, "so it cannot set the clock all the same"
    if shutil.which("systemd-analyze"):
        copy = tmp_path / UNIT.name
        copy.write_text("\n".join("ExecStart=/bin/true" if one.startswith("ExecStart=") else one for one in lines))
        done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("slip", [0.0, JITTER / 2, -JITTER / 2])
def test_the_jitter_of_reading_two_clocks_is_no_correction(slip: float) -> None:
    """The offset stays what it was until the clock is really corrected."""
    wall = [NOW]
    clock = Clock(boot=lambda: 100.0, wall=lambda: wall[0], boot_id="b")
    wall[0] += slip
    assert clock.read() == (100.0, NOW - 100.0)
    wall[0] += 0.05
    assert clock.read() == (100.0, pytest.approx(NOW - 100.0 + 0.05 + slip, abs=1e-6))


@given(st.lists(st.sampled_from([0.0, 0.0, 0.3, 2.0]), max_size=15))
def test_a_process_that_is_held_up_between_two_clocks_takes_that_for_no_correction(pauses: list[float]) -> None:
    """On a busy machine, or while it is frozen, much time can pass between reading the one clock and the other."""
    now = [0.0]
    left = [*pauses]

    def read(ahead: float) -> float:
        now[0] += left.pop() if left else 0.0
        return now[0] + ahead

    clock = Clock(boot=lambda: read(0.0), wall=lambda: read(NOW), boot_id="b")
    left += pauses
    for _ in range(10):
        _, offset = clock.read()
        assert offset == pytest.approx(NOW, abs=2 * JITTER)
