"""Devices and uplinks come and go in a running service, one reload at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from gateway import Adapter, Device
from gateway.announce import Announcer
from gateway.clock import Clock
from gateway.config import Config, ConfigError, Problem, load
from gateway.config.models import Device as DeviceSection
from gateway.devices import Spent
from gateway.metric import Metric
from gateway.service import building
from gateway.service.crew import Crew
from gateway.service.parts import Parts
from gateway.service.plan import plan
from gateway.service.reloading import Reloading
from gateway.watch import Watch
from tests.adapters.notebook import Notebook, running
from tests.commands.obedient import until

NOBODY = "mqtt://127.0.0.1:1"


class Counting(Adapter):
    """Emits a number after the other, as fast as it is asked to by the test."""

    step: int = 1
    stubborn: bool = False

    async def run(self, device: Device) -> None:
        """Emit until it is cancelled; one that is stubborn goes on until it is let go."""
        OPEN.append(self)
        device.online()
        try:
            await asyncio.Event().wait()
        finally:
            while self.stubborn and self not in LET_GO:
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    continue
            OPEN.remove(self)


OPEN: list[Counting] = []
LET_GO: list[Counting] = []


class Site:
    """A service without its signals: a config is what it is told."""

    def __init__(self, file: Path, parts: Parts, crew: Crew) -> None:
        self.file = file
        self.parts = parts
        self.crew = crew
        self.reads: list[Config | Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reading = threading.Event()
        self.notes: list[dict[str, str]] = []
        outbox, announcer = parts._outbox, parts._announcer
        self.watch = Watch(self, outbox, announcer, parts.uplinks.values(), parts.devices.values(), {})  # type: ignore[arg-type]
        log = structlog.get_logger()
        self.reloading = Reloading(file, parts, crew, self, self.watch, log, read=self.read)  # type: ignore[arg-type]

    def send(self, **variables: str) -> None:
        self.notes.append(variables)

    def read(self, _: Path) -> Config:
        self.reading.set()
        self.gate.wait(10)
        told = self.reads.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    def config(self, **adapters: Adapter) -> Config:
        """Return what the file says, with these devices."""
        devices = {name: DeviceSection(name=name, kind="counting", adapter=one) for name, one in adapters.items()}
        return load(self.file).model_copy(update={"devices": devices})

    async def change(self, config: Config) -> None:
        found = await self.parts.change_devices(config, plan(self.parts.config, config))
        await self.parts.change_uplinks(found)

    def ready(self) -> int:
        return sum("READY" in note for note in self.notes)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[gateway]\nid = "gw"\n[outbox]\npath = "{tmp_path}/o.db"\nkeep_free = "0B"\n[uplinks.cloud]\n'
        f'brokers = ["{NOBODY}"]\n'
    )
    log, clock, crew = structlog.get_logger(), Clock(), Crew()
    config = load(file)
    OPEN.clear()
    LET_GO.clear()
    async with (
        building.outbox(config, log, clock) as outbox,
        Announcer(outbox) as announcer,
        Spent(None, log) as spent,
        Parts(config, outbox, announcer, spent, clock, crew, log, closing=0.05) as parts,
    ):
        parts.start_devices({})
        yield Site(file, parts, crew)


async def test_what_is_the_same_is_not_touched(site: Site) -> None:
    """The very same device goes on, and the very same link; figures have what there is now, in the config's order."""
    await site.change(site.config(a=Counting(), b=Counting()))
    await until(lambda: len(OPEN) == 2)
    a, link = site.parts.devices["a"], site.parts.uplinks["cloud"]
    await site.change(site.config(c=Counting(), b=Counting(step=2), a=Counting()))
    await until(lambda: len(OPEN) == 3)
    assert list(site.parts.devices) == ["c", "b", "a"]
    assert (site.parts.devices["a"], site.parts.uplinks["cloud"]) == (a, link)
    assert {one.step for one in OPEN} == {1, 2}
    assert [device.name for device in site.watch._devices] == ["c", "b", "a"]


async def test_a_device_that_does_not_close_is_opened_anew_once_it_has(site: Site) -> None:
    """Others do not wait for it, and two of it never run at once."""
    stubborn = Counting(stubborn=True)
    await site.change(site.config(a=stubborn, b=Counting()))
    await until(lambda: len(OPEN) == 2)
    with capture_logs() as log:
        await site.change(site.config(a=Counting(step=2), b=Counting(step=2)))
        await until(lambda: len(OPEN) == 2)
        assert [(one.step, one.stubborn) for one in OPEN] == [(1, True), (2, False)]
        await site.change(site.config(a=Counting(step=3), b=Counting(step=3)))
        await until(lambda: [one.step for one in OPEN] == [1, 3])
    assert sum("does not close" in line["event"] for line in log) == 1
    LET_GO.append(stubborn)
    await until(lambda: stubborn not in OPEN and len(OPEN) == 2)
    assert [one.step for one in OPEN] == [3, 3]


async def test_one_reload_at_a_time_and_the_newest_file_counts(site: Site) -> None:
    """Whoever asks meanwhile is refused, but for the signal, which cannot be: it is heard once more afterwards."""
    site.gate.clear()
    site.reads = [site.config(a=Counting()), site.config(b=Counting())]
    site.reloading.on_signal()
    await until(site.reading.is_set)
    with pytest.raises(ValueError, match="under way"):
        await site.reloading.request(str(site.file))
    with pytest.raises(ValueError, match="under way"):
        site.reloading.command({})
    for _ in range(3):
        site.reloading.on_signal()
    site.gate.set()
    await until(lambda: site.ready() == 2)
    assert list(site.parts.devices) == ["b"]
    assert [sorted(note) for note in site.notes] == [["MONOTONIC_USEC", "RELOADING"], ["READY"]] * 2


async def test_a_config_that_cannot_be_read_leaves_all_as_it_is(site: Site) -> None:
    """Whatever an adapter does while its table is looked at: it is said, and the service goes on."""
    await site.change(site.config(a=Counting()))
    site.reads = [RuntimeError("a bug of somebody's adapter"), site.config(a=Counting())]
    with capture_logs() as log, pytest.raises(ValueError, match="the log says more"):
        await site.reloading.command({})
    assert any(line.get("exc_info") for line in log)
    assert "goes on" in site.watch.status()
    await until(lambda: site.ready() == 1)
    assert await site.reloading.request(str(site.file)) == {}
    assert "goes on" not in site.watch.status()
    assert list(site.parts.devices) == ["a"]


async def test_a_flood_of_commands_does_not_fill_the_log(site: Site) -> None:
    """What is wrong is said once to the log, and each time to whoever has asked; a signal comes from somebody here."""
    site.reads = [ConfigError([Problem(site.file, 1, 1, "no")]) for _ in range(11)]
    with capture_logs() as log:
        for _ in range(10):
            with pytest.raises(ValueError, match="gateway"):
                await site.reloading.command({})
            await until(lambda: site.reloading._task is None)
        site.reloading.on_signal()
        await until(lambda: site.ready() == 11)
    said = [line["event"] for line in log if line["log_level"] == "error"]
    assert said == 2 * [f"{site.file}:1:1: error: no", said[1]]


async def test_another_file_is_not_what_the_service_reads(site: Site, tmp_path: Path) -> None:
    """Who names another one is told; the same one may be called something else."""
    (tmp_path / "other.toml").write_text("")
    (tmp_path / "link.toml").symlink_to(site.file)
    with pytest.raises(ValueError, match=str(site.file)):
        await site.reloading.request(str(tmp_path / "other.toml"))
    site.reads = [site.config()]
    assert await site.reloading.request(str(tmp_path / "link.toml"), dry=True) == {}
    assert site.notes == []


async def test_the_end_of_the_service_waits_for_no_file(site: Site) -> None:
    """What is being read is given up; what is being applied is finished; then nothing begins."""
    site.gate.clear()
    site.reads = [site.config(a=Counting())]
    asked = asyncio.ensure_future(site.reloading.request(str(site.file)))
    await until(site.reading.is_set)
    await site.reloading.finish()
    with pytest.raises(asyncio.CancelledError):
        await asked
    site.gate.set()
    assert list(site.parts.devices) == []
    with pytest.raises(ValueError, match="stopping"):
        await site.reloading.request(str(site.file))
    site.reloading.on_signal()
    assert site.ready() == 1


async def test_a_part_that_fails_ends_the_service(site: Site) -> None:
    """Also one that came later."""

    async def fails() -> None:
        raise RuntimeError("a bug")

    site.crew.start(fails(), "fails")
    with pytest.raises(RuntimeError, match="a bug"):
        await site.crew.until(asyncio.Event())


async def test_a_device_is_declared_anew_while_it_runs() -> None:
    """From the next reading on; what was remembered of the old declaration does not count. Not windows."""
    notes = Notebook()
    device = notes.device("d", Counting(), {"x": Metric(deadband=10)})
    async with running(device):
        await notes.until(lambda: device.state == "online")
        device.take_in({"x": 1})
        device.take_in({"x": 2})
        device.declare({"x": Metric(scale=10, deadband=5)}, {"y": "x + 1"})
        device.take_in({"x": 2})
        device.take_in({"x": 2})
        device.declare({})
        device.take_in({"x": 2})
        with pytest.raises(ValueError, match="windows"):
            device.declare({"x": Metric(window=1.0)})
        assert notes.of("d") == [{"x": 1}, {"x": 20, "y": 21}, {"y": 21}, {"x": 2}]
