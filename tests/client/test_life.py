"""The life of a client: links that come and go, what is told of them, and the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

import gateway
from gateway import (
    Broker,
    Client,
    Connected,
    ConnectionLost,
    Credentials,
    NotConnected,
    Publication,
    Reconnecting,
    Tls,
    Will,
)
from gateway.client.events import KEPT, Events
from tests.client.conftest import NOWHERE, Make
from tests.scripted_broker import ScriptedBroker


async def test_events_tell_what_happens_to_the_link(make: Make, broker: ScriptedBroker) -> None:
    """Connected, lost with the reason, reconnecting with the delay, connected: in this order, to all who listen."""
    called: list[object] = []
    async with make(
        protocol="3.1.1", on_connected=called.append, on_lost=called.append, on_reconnecting=called.append
    ) as client:
        events = client.events()
        async with asyncio.timeout(5):
            assert await anext(events) == Connected(broker.url, "3.1.1", False)
            assert client.status.broker == broker.url
            await broker.stop()
            lost = await anext(events)
            assert isinstance(lost, ConnectionLost)
            assert lost.broker == broker.url
            assert lost.reason
            again = await anext(events)
            assert isinstance(again, Reconnecting)
            assert 0 <= again.delay <= 0.05
            assert again.broker == broker.url
            refused = await anext(events)
            assert isinstance(refused, Reconnecting)
            assert "refused" in refused.reason
            await broker.start()
            while not isinstance(event := await anext(events), Connected):
                pass
        late = client.events()
        assert await anext(late) == event  # begins with the link that there is
        await client.close()
        assert [one async for one in late] == []
    assert called[0] == Connected(broker.url, "3.1.1", False)
    assert isinstance(called[1], ConnectionLost)
    assert isinstance(called[2], Reconnecting)
    assert called[-1] == event


def test_events_that_nobody_takes_are_bounded() -> None:
    """A program that does not look loses the oldest events, and no memory."""
    events = Events()
    for n in range(KEPT + 10):
        events.put(Reconnecting("a", n, ""))
    assert len(events._events) == KEPT
    assert events._events[0] == Reconnecting("a", 10, "")


async def test_a_callback_that_fails_harms_nothing(make: Make, broker: ScriptedBroker) -> None:
    """What a program's function raises is logged, and the client goes on."""

    def fails(_: object) -> None:
        raise KeyError("of the program")

    with capture_logs() as logs:
        async with make(on_connected=fails, on_lost=fails, on_reconnecting=fails, on_delivered=fails) as client:
            await client.connected(5)
            broker.drop()
            assert await (await client.publish("a")) == "acknowledged"
    failed = {entry["event"] for entry in logs if "has failed" in entry["event"]}
    assert failed == {
        f"client: {name} has failed" for name in ("on_connected", "on_lost", "on_reconnecting", "on_delivered")
    }


async def test_no_link_in_time_is_an_error_that_says_why(make: Make, broker: ScriptedBroker) -> None:
    """Whoever waits for a link is told what is wrong with each broker."""
    broker.refuse = 0x86
    async with make(NOWHERE, broker.url, protocol="5") as client:
        events = client.events()
        for _ in range(2):  # one for each broker
            await anext(events)
        with pytest.raises(NotConnected) as told:
            await client.connected(0)
        assert "mqtt://127.0.0.1:1: " in str(told.value)
        assert "bad user name or password" in str(told.value)
        assert isinstance(told.value, TimeoutError)
        await client.close(0)


async def test_the_next_broker_is_used(make: Make, broker: ScriptedBroker) -> None:
    """Of several brokers the first that can be reached is used, and each one's state is visible."""
    async with make(NOWHERE, Broker(broker.url, client_id="other")) as client:
        await client.connected(5)
        assert client.status.broker == broker.url
        first, second = client.status.brokers
        assert (first.url, first.state) == (NOWHERE, "away")
        assert "refused" in (first.reason or "")
        assert (second.url, second.state) == (broker.url, "active")
    assert broker.connects[0].client_id == "other"


async def test_what_connect_says(make: Make, broker: ScriptedBroker) -> None:
    """Every option of a session is said in CONNECT, on every link."""
    will = Will("status", b"\xff\0", qos=2, retain=True, properties={"will_delay_interval": 5})
    async with make(
        client_id="me",
        username="user",
        password="word",
        keep_alive=7,
        clean_start=False,
        session_expiry=60,
        will=will,
        receive_maximum=11,
        topic_alias_maximum=3,
        request_response_information=True,
        user_properties=[("a", "b")],
        protocol="5",
    ) as client:
        await client.connected(5)
        broker.drop()
        await broker.until(lambda: len(broker.connects) == 2)
    for connect in broker.connects:
        assert (connect.client_id, connect.username, connect.password) == ("me", "user", b"word")
        assert (connect.keep_alive, connect.clean, connect.will) == (7, False, will)
        said = connect.properties
        assert (said["session_expiry_interval"], said["receive_maximum"]) == (60, 11)
        assert (said["topic_alias_maximum"], said["request_response_information"]) == (3, 1)
        assert said["user_properties"] == [("a", "b")]


async def test_limits_of_the_broker_are_visible(make: Make, broker: ScriptedBroker) -> None:
    """What the broker has decided, such as the client id, can be read."""
    broker.connack.update(assigned_client_identifier="given", server_keep_alive=9, response_information="answers/")
    async with make(client_id="", protocol="5") as client:
        await client.connected(5)
        limits = client.status.limits
        assert limits is not None
        assert (limits.client_id, limits.keep_alive, limits.response_information) == ("given", 9, "answers/")


async def test_a_birth_message_is_the_first_on_every_link(make: Make, broker: ScriptedBroker) -> None:
    """It comes before what has waited, and overrides a will that raced; it can be left out."""
    birth = Publication("status", b"here", 1, True)
    async with make(birth=birth, will=Will("status", b"gone")) as client:
        await (await client.publish("a", b"1"))
        broker.drop()
        await broker.until(lambda: len(broker.published) == 3)
    assert [payload for _, payload, _, _ in broker.published] == [b"here", b"1", b"here"]
    assert broker.published[0] == ("status", b"here", 1, True)
    assert len(broker.wills) == 1  # of the link that was cut, and none of the orderly end


async def test_fresh_credentials_are_asked_for_each_connect(make: Make, broker: ScriptedBroker) -> None:
    """Passwords that expire come from a function, which may be a coroutine."""
    asked = 0

    async def fresh() -> Credentials:
        nonlocal asked
        asked += 1
        return Credentials("me", b"%d" % asked)

    async with make(credentials=fresh) as client:
        await client.connected(5)
        broker.drop()
        await broker.until(lambda: len(broker.connects) == 2)
    assert [connect.password for connect in broker.connects] == [b"1", b"2"]


async def test_the_trace_shows_packets_and_no_secrets(make: Make) -> None:
    """Every packet of both directions is a line at debug level; without being asked for, there is none."""
    with capture_logs() as logs:
        async with make(username="me", password="secret", trace=True) as client:
            await (await client.publish("a", b"1"))
        lines = [entry for entry in logs if entry["log_level"] == "debug"]
        assert any("out" in entry["event"] and "CONNECT" in entry["event"].upper() for entry in lines)
        assert any(" in " in entry["event"] and "PUBACK" in entry["event"].upper() for entry in lines)
        assert not any("secret" in str(entry) for entry in logs)
    with capture_logs() as logs:
        async with make() as client:
            await (await client.publish("a", b"1"))
        assert not [entry for entry in logs if entry["log_level"] == "debug"]


async def test_a_program_that_says_nothing_about_logs_gets_warnings_only(
    make: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library prints nothing by itself; its log is that of the standard library."""
    structlog.reset_defaults()
    async with make(NOWHERE) as client:
        await anext(client.events())
        await client.close(0)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("client: cannot use mqtt://127.0.0.1:1: ")
    assert capsys.readouterr().out == ""


async def test_an_insecure_broker_is_named_wherever_it_is(make: Make) -> None:
    """Who takes any certificate is told so in every status."""
    async with make("mqtts://127.0.0.1:1", tls=Tls(insecure=True)) as client:
        assert client.status.brokers[0].insecure
        await client.close(0)


async def test_a_second_close_waits_for_the_first(make: Make, broker: ScriptedBroker) -> None:
    """Whoever returns from `close` finds the client closed; a cancelled close is one, too."""
    broker.hold_acks = True
    async with make(ack_timeout=30) as client:
        delivery = await client.publish("a")
        await broker.until(lambda: broker.held == 1)
        first = asyncio.ensure_future(client.close(30))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(client.close(30))
        await asyncio.sleep(0)
        assert not second.done()
        first.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([first, second])
        assert delivery.state == "dropped"
        assert not client._uplink.task or client._uplink.task.done()


async def test_a_cancelled_program_closes_at_once(make: Make, broker: ScriptedBroker) -> None:
    """Who is cancelled does not wait for what is behind."""
    broker.hold_acks = True

    async def program() -> None:
        async with make(ack_timeout=60) as client:
            await client.publish("a")
            await asyncio.Event().wait()

    task = asyncio.ensure_future(program())
    await broker.until(lambda: broker.held == 1)
    task.cancel()
    async with asyncio.timeout(4.5):
        await asyncio.wait([task])
    assert task.cancelled()


async def test_a_store_in_use_is_an_error(make: Make, tmp_path: Path) -> None:
    """Two clients cannot share a store: the second one is told while it is opened, and the first one goes on."""
    async with make(store=tmp_path / "store") as client:
        with pytest.raises(gateway.OutboxInUse):
            await make(store=tmp_path / "store").__aenter__()
        assert await (await client.publish("a")) == "acknowledged"


def test_the_face_is_complete() -> None:
    """Everything that the package names can be had from it, and what it does not name is an error as usual."""
    for name in gateway.__all__:
        assert getattr(gateway, name) is not None
    assert gateway.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        _ = gateway.Nobody  # type: ignore[attr-defined]


@pytest.mark.parametrize("steps", range(6))
async def test_a_program_that_is_cancelled_again_leaves_nothing_running(
    make: Make, broker: ScriptedBroker, steps: int
) -> None:
    """However often somebody cancels while a client closes, it closes: every part of it has ended then."""
    inside = asyncio.Event()

    async def program() -> None:
        async with make() as client:
            await client.connected(5)
            inside.set()
            await asyncio.get_running_loop().create_future()

    before = asyncio.all_tasks()
    task = asyncio.create_task(program())
    await inside.wait()
    task.cancel()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not {one for one in asyncio.all_tasks() - before if not one.done()}
