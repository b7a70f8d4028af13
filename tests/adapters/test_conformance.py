"""What every installed adapter must be, whoever wrote it; and that the suite finds those that are not."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ConfigDict, Field

from gateway import Adapter, Device, DeviceError, registry
from gateway.testing import AdapterConformance, NoDevice, SerialStandIn, StandIn, conformance, suites
from tests.adapters.conformance import KEYS_ONLY, STAND_INS
from tests.adapters.test_cases import CASES

CHECKS = [name for name in dir(AdapterConformance) if name.startswith("test_")]
NEED_NO_DEVICE = {"test_it_says_what_it_is_and_what_each_key_means", "test_it_is_frozen_and_refuses_unknown_keys"}


globals().update(suites("sensor-gateway", {**STAND_INS, **dict.fromkeys(KEYS_ONLY, lambda folder: NoDevice())}, CASES))
for _name in KEYS_ONLY:
    for _check in set(CHECKS) - NEED_NO_DEVICE:
        setattr(globals()[f"Test_{_name}"], _check, None)


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
        try:
            fd = os.open(self.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            if self.fault == "a bug when the device is away":
                raise KeyError(self.port) from None
            raise
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            if self.fault == "a task that stays":
                asyncio.create_task(asyncio.sleep(3600))  # noqa: RUF006
            while True:
                await self._until(ready)
                ready.clear()
                try:
                    if not os.read(fd, 4096):
                        raise DeviceError("unplugged")
                except BlockingIOError:
                    continue
                if self.fault == "a stall":
                    time.sleep(0.03)
                if self.fault == "thrown away":
                    device.skip("half a line")
                if self.fault == "a wrong name":
                    await device.emit({"\n": 1})
                else:
                    await device.emit({"t": 1})
        finally:
            loop.remove_reader(fd)
            if self.fault != "an open descriptor":
                os.close(fd)

    async def _until(self, ready: asyncio.Event) -> None:
        try:
            await ready.wait()
        except asyncio.CancelledError:
            if self.fault != "a cancellation that is swallowed":
                raise
            await ready.wait()


class Loose(Bad):
    """Takes any key, and lets it be changed."""

    model_config = ConfigDict(extra="allow", frozen=False)


class Undocumented(Bad):
    """Has a key of which nobody knows what it means."""

    speed: int = 9600


# The check that is to find it, and what it says.
FAULTS = {
    "an open descriptor": ("test_it_ends_when_it_is_cancelled_in_any_state", "left open"),
    "a cancellation that is swallowed": ("test_it_ends_when_it_is_cancelled_in_any_state", "did not end within"),
    "a task that stays": ("test_it_ends_when_it_is_cancelled_in_any_state", "left tasks behind"),
    "a bug when the device is away": ("test_it_finds_its_device_again_when_it_is_lost_in_any_state", "a bug: KeyError"),
    "a stall": ("test_it_never_holds_up_the_loop", "held up the loop"),
    "thrown away": ("test_it_opens_and_emits", "threw away"),
    "a wrong name": ("test_it_opens_and_emits", "threw away"),
}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(conformance, "PATIENCE", 0.5)
    monkeypatch.setattr(conformance, "ENDING", 0.1)
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
    ("kind", "name"),
    [
        (Loose, "test_it_is_frozen_and_refuses_unknown_keys"),
        (Undocumented, "test_it_says_what_it_is_and_what_each_key_means"),
    ],
)
def test_the_suite_finds_what_is_wrong_with_keys(kind: type[Adapter], name: str, tmp_path: Path) -> None:
    """Keys that may be anything or change, and keys without a description, are found."""
    with pytest.raises(AssertionError):
        held(checks(kind, "nothing"), name, tmp_path)


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
