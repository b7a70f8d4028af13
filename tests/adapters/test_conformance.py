"""What every installed adapter must be, whoever wrote it; and that the suite finds those that are not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gateway import Adapter, Device, DeviceError, registry
from gateway.testing import AdapterConformance, NoDevice, SerialStandIn, StandIn, conformance, suites
from gateway.testing.states import StallWatch, starved
from tests.adapters.conformance import STAND_INS
from tests.adapters.test_cases import CASES

CHECKS = [name for name in dir(AdapterConformance) if name.startswith("test_")]


globals().update(suites("sensor-gateway", STAND_INS, CASES))


def test_an_adapter_that_is_left_out_is_found(tmp_path: Path) -> None:
    """The suite runs over each adapter that a package registers, whether or not anybody thought of it."""
    left_out = suites("sensor-gateway", {"scale": STAND_INS["scale"]}, CASES)
    assert len(left_out) == len(registry.names("sensor-gateway"))
    held(left_out["Test_scale"](), "test_it_is_frozen_and_refuses_unknown_keys", tmp_path)
    held(left_out["Test_serial_text"](), "test_it_is_frozen_and_refuses_unknown_keys", tmp_path)
    with pytest.raises(AssertionError, match="nothing stands in for the device of simulator"):
        held(left_out["Test_simulator"](), "test_it_is_frozen_and_refuses_unknown_keys", tmp_path)
    with pytest.raises(LookupError, match="no-such-package registers no adapter"):
        suites("no-such-package")


class Bad(Adapter):
    """Reads a port, and does one thing wrong after the other, by its key."""

    port: str = Field(description="The port.")
    fault: str = Field(description="What is done wrong.")

    async def run(self, device: Device) -> None:
        """Read the port."""
        loop = asyncio.get_running_loop()
        self._stall("a stall while it opens")
        try:
            fd = os.open(self.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            if self.fault == "a bug when the device is away":
                raise KeyError(self.port) from None
            raise
        if self.fault == "a state before it is safe to be cancelled":
            await asyncio.sleep(0)
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        lost = False
        try:
            if self.fault == "a task that stays":
                asyncio.create_task(asyncio.sleep(3600))  # noqa: RUF006
            while True:
                await self._until(ready)
                ready.clear()
                try:
                    if not os.read(fd, 4096):
                        lost = True
                        if self.fault == "a loss that is not noticed":
                            await asyncio.sleep(3600)
                        raise DeviceError("unplugged")
                except BlockingIOError:
                    continue
                await self._speak(device)
        finally:
            loop.remove_reader(fd)
            self._stall("a stall while it closes")
            if self.fault != "an open descriptor" and not (lost and self.fault == "an open descriptor after a loss"):
                os.close(fd)

    async def _speak(self, device: Device) -> None:
        self._stall("a stall")
        if self.fault == "much work":
            end = time.thread_time() + 0.03
            while time.thread_time() < end:
                pass
        if self.fault == "thrown away":
            device.skip("half a line")
        if self.fault == "no reading":
            device.online()
        elif self.fault == "a wrong name":
            await device.emit({"\n": 1})
        else:
            await device.emit({"t": 1})

    def _stall(self, fault: str) -> None:
        if self.fault == fault:
            time.sleep(0.06)

    async def _until(self, ready: asyncio.Event) -> None:
        try:
            await ready.wait()
        except asyncio.CancelledError:
            if self.fault == "a cancellation that becomes a failure":
                raise DeviceError("cancelled") from None
            if self.fault == "a cancellation that becomes a bug":
                raise KeyError("cancelled") from None
            if self.fault != "a cancellation that is swallowed":
                raise
            await ready.wait()


class Loose(Bad):
    """Takes any key."""

    model_config = ConfigDict(extra="allow")


class Changing(Bad):
    """Lets its keys be changed."""

    model_config = ConfigDict(frozen=False)


class Undocumented(Bad):
    """Has a key of which nobody knows what it means."""

    speed: int = 9600


class Part(BaseModel):
    """A table in a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=1, description="How much of it there is.")


class UndocumentedPart(Part):
    """A table with a key of which nobody knows what it means."""

    colour: str = "red"


class LoosePart(Part):
    """A table that takes any key."""

    model_config = ConfigDict(extra="ignore")


class Assembled(Bad):
    """Has tables in its table, each as it should be."""

    parts: dict[str, Part | None] = Field(default={}, description="Parts by their names.")


class UndocumentedInside(Bad):
    """Has tables with keys of which nobody knows what they mean."""

    parts: dict[str, UndocumentedPart | None] = Field(default={}, description="Parts by their names.")


class LooseInside(Bad):
    """Has tables that take any key."""

    parts: list[LoosePart] = Field(default=[], description="Parts.")


class Misnamed(Bad):
    """Says of a key that it is exclusive which it does not have."""

    exclusive: ClassVar[tuple[str, ...]] = ("prot",)


class Nameless(Bad):
    __doc__ = None


class Blocking(Bad):
    """Has a run that is no coroutine."""

    def run(self, device: Device) -> None:  # type: ignore[override]
        """Read the port."""


ENDS = "test_it_ends_when_it_is_cancelled_in_any_state"
LOST = "test_it_finds_its_device_again_when_it_is_lost_in_any_state"
OPENS = "test_it_opens_and_emits"
HOLDS = "test_it_never_holds_up_the_loop"
SAYS = "test_it_says_what_it_is_and_what_each_key_means"
FROZEN = "test_it_is_frozen_and_refuses_unknown_keys"

# The check that is to find it, and what it says.
FAULTS = {
    "no reading": (OPENS, "nothing more within"),
    "thrown away": (OPENS, "threw away"),
    "a wrong name": (OPENS, "threw away"),
    "an open descriptor": (ENDS, "left open"),
    "a state before it is safe to be cancelled": (ENDS, "left open"),
    "a cancellation that is swallowed": (ENDS, "did not end within"),
    "a cancellation that becomes a failure": (ENDS, "its cancellation became a failure: cancelled"),
    "a cancellation that becomes a bug": (ENDS, "its cancellation became a failure: KeyError"),
    "a task that stays": (ENDS, "left tasks behind"),
    "a bug when the device is away": (LOST, "a bug: KeyError"),
    "a loss that is not noticed": (LOST, "nothing more within"),
    "an open descriptor after a loss": (LOST, "left open"),
    "a stall": (HOLDS, "held up the loop for [2-9][0-9] ms"),
    "a stall while it opens": (HOLDS, "held up the loop for [2-9][0-9] ms"),
    "a stall while it closes": (HOLDS, "held up the loop for [2-9][0-9] ms"),
    "much work": (HOLDS, "held up the loop for [2-9][0-9] ms"),
}


@pytest.fixture
def _impatient(fault: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if FAULTS[fault][0] != HOLDS:
        monkeypatch.setattr(conformance, "PATIENCE", 2.0)
        monkeypatch.setattr(conformance, "ENDING", 0.3)
    before = set(os.listdir("/proc/self/fd"))
    yield
    for left in set(os.listdir("/proc/self/fd")) - before:
        if os.path.exists(f"/proc/self/fd/{left}"):
            os.close(int(left))


def checks(kind: type[Adapter], fault: str) -> AdapterConformance:
    class Suite(AdapterConformance):
        adapter: ClassVar[str | type[Adapter]] = kind

        def stand_in(self, folder: Path) -> StandIn:
            return SerialStandIn(folder, b"x", fault=fault)

    return Suite()


def held(suite: Any, name: str, folder: Path) -> None:
    check = getattr(suite, name)
    check(**({"tmp_path": folder} if "tmp_path" in check.__code__.co_varnames else {}))


@pytest.mark.parametrize("name", CHECKS)
def test_an_adapter_without_a_fault_passes(name: str, tmp_path: Path) -> None:
    """Without this, what is found below would prove nothing."""
    held(checks(Bad, "nothing"), name, tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("_impatient")
def test_the_suite_finds_what_is_wrong(fault: str, tmp_path: Path) -> None:
    """Each fault fails the check that is about it."""
    name, words = FAULTS[fault]
    with pytest.raises(AssertionError, match=words):
        held(checks(Bad, fault), name, tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (Loose, FROZEN, "Loose takes keys that do not exist"),
        (LooseInside, FROZEN, "LoosePart takes keys that do not exist"),
        (Changing, FROZEN, "the key port can be changed"),
        (Undocumented, SAYS, "the key speed has no description"),
        (UndocumentedInside, SAYS, "in the table UndocumentedPart, the key colour has no description"),
        (Misnamed, SAYS, "exclusive names what is no key: prot"),
        (Nameless, SAYS, "Nameless has no docstring"),
        (Blocking, SAYS, r"Blocking\.run is no coroutine function"),
        (NoDevice, SAYS, "is no gateway.Adapter"),
    ],
)
def test_the_suite_finds_what_is_wrong_with_a_class(kind: type[Adapter], name: str, words: str, tmp_path: Path) -> None:
    """Keys that may be anything or change, and keys without a description, are found, also in tables of its own."""
    with pytest.raises(AssertionError, match=words):
        held(checks(kind, "nothing"), name, tmp_path)


def test_tables_in_a_table_are_looked_at(tmp_path: Path) -> None:
    """What is found above is not found in what is as it should be."""
    for name in (SAYS, FROZEN):
        held(checks(Assembled, "nothing"), name, tmp_path)


def test_a_busy_machine_is_no_stall() -> None:
    """A turn of the loop counts for what it works and waits for, less what the machine had no CPU for it."""
    times, waits = iter([0.0, 1.0, 1.5, 9.0]), iter([0.0, 0.99, 0.99, 1.0])
    with StallWatch(lambda: next(times), lambda: next(waits)) as watch:
        watch.select(0)  # from 0.0 on
        watch.select(0)  # until 1.0: 10 ms of its own; from 1.5 on
        assert watch.longest == pytest.approx(0.01)


def test_the_kernel_says_how_long_a_thread_has_waited_for_a_cpu() -> None:
    """On one CPU with others that want it, what a thread has worked and waited for it is all the time there was."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        with subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1) as other:
            assert other.stdout is not None
            other.stdout.readline()
            begun, before, worked = time.perf_counter(), starved(), time.thread_time()
            while time.thread_time() < worked + 0.1:
                pass
            waited, took = starved() - before, time.perf_counter() - begun
            other.kill()
    finally:
        os.sched_setaffinity(0, cpus)
    assert waited > 0.01
    assert took - waited == pytest.approx(0.1, abs=0.05)


def test_all_states_are_visited(tmp_path: Path) -> None:
    """The walk over the states of waiting ends because there are no more, and not because there never were."""
    visited = []

    class Suite(AdapterConformance):
        adapter: ClassVar[str | type[Adapter]] = "serial-text"

        def stand_in(self, folder: Path) -> StandIn:
            return SerialStandIn(folder, b'{"t": 1}\n')

        def _play(self, *arguments: Any, **more: Any) -> Any:
            visited.append(run := super()._play(*arguments, **more))
            return run

    Suite().test_it_ends_when_it_is_cancelled_in_any_state(tmp_path)
    assert len(visited) >= 3
    assert [run.states.reached for run in visited] == [True] * (len(visited) - 1) + [False]


def test_an_adapter_without_a_device_has_nothing_to_lose(tmp_path: Path) -> None:
    """What cannot be lost is not waited for."""

    class Suite(AdapterConformance):
        adapter: ClassVar[str | type[Adapter]] = "simulator"

        def stand_in(self, folder: Path) -> StandIn:
            return NoDevice(interval="1ms")

    Suite().test_it_finds_its_device_again_when_it_is_lost_in_any_state(tmp_path)
