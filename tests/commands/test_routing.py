"""From a topic to the device or the gateway itself, and back to whoever has sent the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import Metric
from gateway.commands import Commands, Own, Target
from gateway.devices import Spent
from gateway.devices.orders import QUEUE
from gateway.mqtt import Message
from gateway.reading import Publication
from tests.adapters.notebook import Notebook, running
from tests.commands.obedient import Obedient, until

NOW, STARTED = 1_800_000_000.0, 1_799_990_000.0


def said(**content: Any) -> bytes:
    return json.dumps(content).encode()


class Desk:
    """Commands for one obedient device "d", whose metric "valve" can be set; what is published and logged is noted."""

    def __init__(self, notes: Notebook, spent: Spent | None = None, **metrics: Metric) -> None:
        self.device = notes.device("d", Obedient())
        self.published: list[Publication] = []
        self.log: list[str] = []
        self.link = True
        self.now: float | None = NOW
        self.time = 0.0
        self.reloaded: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.commands = Commands(
            "base/gw", self.say, lambda: (self.now, STARTED), spent=spent, logger=self, clock=lambda: self.time
        )
        known = metrics or {"valve": Metric(settable=True), "knob": Metric(), "gauge": Metric(settable=True)}
        own: dict[str, Own] = {"ping": lambda says: {"pong": says.get("n")}, "reload": lambda _: self.reloaded}
        self.commands.serve({"d": Target(self.device, known)}, own)

    def say(self, uplink: str, publication: Publication) -> bool:
        assert uplink == "cloud"
        self.published.append(publication)
        return self.link

    def info(self, line: str, **_: object) -> None:
        self.log.append(line)

    warning = info

    def send(
        self, payload: bytes, topic: str = "base/gw/d/valve/set", *, devices: list[str] | None = None, **more: Any
    ) -> None:
        self.commands.received("cloud", Message(topic, payload, 1, **more), devices=devices)

    async def results(self, count: int) -> list[dict[str, Any]]:
        await until(lambda: len(self.published) >= count)
        assert len(self.published) == count
        return [json.loads(one.payload) for one in self.published]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    notes = Notebook()
    made = Desk(notes)
    async with running(made.device):
        await notes.until(lambda: made.device.state == "online")
        yield made


async def test_a_result_says_what_became_of_which_command(desk: Desk) -> None:
    """Its time, device, metric, value and id, and what the device then has; beside the command, at QoS 1."""
    desk.send(said(value=5, id="x"))
    (result,) = await desk.results(1)
    assert result == {
        "ts": NOW * 1000,
        "device": "d",
        "metric": "valve",
        "value": 5,
        "id": "x",
        "result": "done",
        "read_back": 5,
    }
    assert desk.published[0][:4] == ("base/gw/d/valve/result", desk.published[0].payload, 1, False)
    assert desk.log == ["d: valve = 5: done"]


async def test_a_result_goes_to_the_response_topic_with_the_correlation_data(desk: Desk) -> None:
    """As MQTT 5 has it; a response topic that nothing can be published to is passed over."""
    desk.send(b"1", properties={"response_topic": "me/answers", "correlation_data": b"\0\1"})
    desk.send(b"2", properties={"response_topic": "me/#"})
    await desk.results(2)
    assert [one.topic for one in desk.published] == ["me/answers", "base/gw/d/valve/result"]
    assert [(one.properties or {}).get("correlation_data") for one in desk.published] == [b"\0\1", None]


@pytest.mark.parametrize(
    "topic", ["base/gw/d/set", "base/gw/d/valve/set/x", "base/gw", "other/gw/d/valve/set", "d/x/set"]
)
async def test_what_is_no_topic_of_a_command_is_passed_over(desk: Desk, topic: str) -> None:
    """A session that a broker has kept may bring what nobody asks for any more."""
    desk.send(b"1", topic)
    desk.send(b"1")
    await desk.results(1)


async def test_an_id_is_spent_by_its_first_command(desk: Desk) -> None:
    """Again, however delivered, it is answered to whoever asks now, also when it was refused; and never carried out."""
    desk.send(said(value="twice", id="a", ts=NOW * 1000))
    desk.send(said(value="refuse", id="b"))
    await desk.results(2)
    desk.send(said(value=7, id="a", ts=NOW * 1000), dup=True, properties={"response_topic": "again"})
    desk.send(said(value=8, id="b"))
    desk.send(said(value=9, id="a"), "base/gw/d/knob/set")
    results = await desk.results(5)
    assert [(one["result"], one.get("again"), one["value"]) for one in results[2:]] == [
        ("done", True, "twice"),
        ("refused", True, "refuse"),
        ("refused", None, 9),
    ]
    assert desk.published[2].topic == "again"


async def test_an_id_that_comes_again_while_it_is_carried_out_is_answered_once(desk: Desk) -> None:
    """One command, one result: to whoever asked last."""
    desk.send(said(value=5, id="a"))
    desk.send(said(value=5, id="a"), properties={"response_topic": "second"})
    await desk.results(1)
    assert desk.published[0].topic == "second"


async def test_a_redelivered_command_without_id_is_not_carried_out(desk: Desk) -> None:
    """QoS 1 may deliver twice, and then nobody knows whether it was carried out."""
    desk.send(b"5", dup=True)
    assert (await desk.results(1))[0]["result"] == "refused"


async def test_a_command_for_the_gateway_has_a_topic_of_its_own(desk: Desk) -> None:
    """Plain, or with what it needs."""
    desk.send(b"ping", "base/gw/command")
    desk.send(said(command="ping", n=3, id=1), "base/gw/command")
    desk.send(b"17", "base/gw/command")
    results = await desk.results(3)
    assert [(one["command"], one["result"]) for one in results] == [("ping", "done"), ("ping", "done"), (17, "refused")]
    assert results[1]["pong"] == 3
    assert desk.published[0].topic == "base/gw/command/result"


async def test_without_a_clock_only_what_does_not_need_it_is_carried_out(desk: Desk) -> None:
    """A gateway that does not know the time cannot tell what is old; its results then have no time."""
    desk.now = None
    desk.send(b"5")
    desk.send(said(value=5, ts=NOW * 1000))
    results = await desk.results(2)
    assert sorted(one["result"] for one in results) == ["done", "refused"]
    assert not any("ts" in one for one in results)


async def test_a_renamed_metric_is_set_by_its_published_name() -> None:
    """Who sends commands sees only the names that are published; the read-back is in the published unit."""
    notes = Notebook()
    desk = Desk(notes, valve=Metric(settable=True, rename="opening", scale=0.5))
    async with running(desk.device):
        await notes.until(lambda: desk.device.state == "online")
        desk.send(b"4", "base/gw/d/opening/set")
        (result,) = await desk.results(1)
    assert (result["metric"], result["value"], result["read_back"]) == ("opening", 4, 4)


async def test_only_what_config_and_device_allow_is_set(desk: Desk) -> None:
    """Either alone is not enough, and what nobody has heard of is neither."""
    for metric in ("knob", "gauge", "none"):
        desk.send(b"5", f"base/gw/d/{metric}/set")
    results = await desk.results(3)
    assert [one["result"] for one in results] == ["refused"] * 3
    assert "settable = true" in results[0]["reason"]
    assert "no such metric that can be set" in results[1]["reason"]


async def test_an_uplink_commands_only_the_devices_that_it_carries(desk: Desk) -> None:
    """A destination that sees some devices cannot touch the others, and is not told that they are there."""
    desk.send(b"5", devices=["other"])
    desk.send(said(command="ping", device="d"), "base/gw/command", devices=["other"])
    desk.send(said(command="ping", device=["d"]), "base/gw/command")
    desk.send(said(command="ping", device="d"), "base/gw/command", devices=["d"])
    desk.send(b"5", devices=["d"])
    results = await desk.results(5)
    assert [one.get("reason", "done") for one in results] == ["there is no such device"] * 3 + ["done"] * 2


async def test_a_flood_of_commands_fills_neither_log_nor_memory(desk: Desk) -> None:
    """Anybody may send any number: what waits, what is remembered and what is logged is bounded."""
    for number in range(3000):
        desk.send(said(value=1, id=number))
    results = await desk.results(3000)
    assert sum("wait for the device already" in one.get("reason", "") for one in results) == 3000 - QUEUE
    assert len(desk.log) <= 21
    assert "many commands" in desk.log[-1]


async def test_a_result_that_cannot_be_published_does_no_harm(desk: Desk) -> None:
    """Whoever wants to know sends the same id again."""
    desk.link = False
    desk.send(said(value=5, id="a"))
    await desk.results(1)
    desk.link = True
    desk.send(said(value=5, id="a"))
    assert (await desk.results(2))[1]["result"] == "done"


async def test_an_id_of_an_earlier_run_is_never_carried_out_again(tmp_path: Path) -> None:
    """Its sender is told that nobody knows what became of it; the same id to another topic is another command."""
    for run in range(2):
        notes = Notebook()
        async with Spent(tmp_path / "spent", structlog.get_logger()) as spent:
            desk = Desk(notes, spent)
            async with running(desk.device):
                await notes.until(lambda desk=desk: desk.device.state == "online")  # type: ignore[misc]
                desk.send(said(value="refuse", id="b"))
                desk.send(said(value=5, id="a"))
                results = {one["id"]: one for one in await desk.results(2)}
                if not run:
                    assert results["a"]["result"] == "done"
                    continue
                for name, value in (("a", 5), ("b", "refuse")):
                    one = results[name]
                    assert (one["result"], one["again"], one["value"]) == ("failed", True, value)
                    assert "earlier run" in one["reason"]
                desk.send(said(value=5, id="a"))
                assert (await desk.results(3))[2]["result"] == "failed"
                desk.send(b"ping", "base/gw/command")
                assert (await desk.results(4))[3]["result"] == "done"


async def test_a_command_that_waits_for_the_card_too_long_is_not_carried_out(tmp_path: Path) -> None:
    """It counts as any other wait."""
    notes = Notebook()
    async with Spent(tmp_path / "spent", structlog.get_logger()) as spent:
        desk = Desk(notes, spent)
        async with running(desk.device):
            await notes.until(lambda: desk.device.state == "online")
            desk.send(said(value=5, id="a"))
            desk.time = 31.0
            (result,) = await desk.results(1)
    assert (result["result"], result["reason"]) == ("refused", "it has expired")


async def test_a_command_of_the_gateway_may_take_its_time(desk: Desk) -> None:
    """It is answered when it is done, or with the reason why it is not; others are answered meanwhile."""
    desk.send(said(command="reload", id=1), "base/gw/command")
    desk.send(b"ping", "base/gw/command")
    assert (await desk.results(1))[0]["command"] == "ping"
    desk.reloaded.set_result({"devices": {"added": ["x"]}})
    result = (await desk.results(2))[1]
    assert (result["command"], result["result"], result["devices"]) == ("reload", "done", {"added": ["x"]})
    desk.reloaded = asyncio.get_running_loop().create_future()
    desk.send(b"reload", "base/gw/command")
    desk.reloaded.set_exception(ValueError("gateway.toml:1:1: error: no"))
    result = (await desk.results(3))[2]
    assert (result["result"], result["reason"]) == ("refused", "gateway.toml:1:1: error: no")


async def test_a_command_that_is_not_done_at_the_end_leaves_nothing_behind(desk: Desk) -> None:
    """The service does not wait for it."""
    desk.send(b"reload", "base/gw/command")
    await desk.commands.close()
    assert desk.published == []
