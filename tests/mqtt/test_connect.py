"""Opening a link with a scripted broker: what works, and what is said when it does not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.mqtt import Address, ConnectError, ConnectRefused, Options, Will, connect
from gateway.mqtt.codec import encode
from gateway.mqtt.dialing import older
from gateway.mqtt.packets import Connack, Publish
from tests.mqtt.recorder import Recorder
from tests.scripted_broker import UNSUPPORTED_IN_3, UNSUPPORTED_IN_5, ScriptedBroker

QUICK = 0.2  # seconds that a test waits for something that never comes


async def failed(broker: ScriptedBroker | str, timeout: float = 5.0, **options: object) -> ConnectError:
    """Return why no link could be made."""
    url = broker if isinstance(broker, str) else broker.url
    with pytest.raises(ConnectError) as caught:
        await connect(Address.parse(url), Options("me", connect_timeout=timeout, **options), Recorder())  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("protocol", "level"), [("auto", 5), ("5", 5), ("3.1.1", 4), ("3.1", 3)])
async def test_a_link_is_made_in_each_protocol(broker: ScriptedBroker, protocol: str, level: int) -> None:
    """The broker hears the CONNECT that was asked for, and the link knows which protocol it speaks."""
    will = Will("gone", b"offline")
    options = Options("me", "user", b"hunter2", keep_alive=12.0, protocol=protocol, will=will)
    link = await connect(Address.parse(broker.url), options, Recorder())
    assert link.protocol == {"auto": "5"}.get(protocol, protocol)
    (packet,) = broker.connects
    assert (packet.level, packet.client_id, packet.username, packet.password) == (level, "me", "user", b"hunter2")
    assert (packet.keep_alive, packet.clean, packet.will) == (12, True, will)
    await link.close()
    assert broker.errors == []


async def test_a_unix_socket_is_as_good(tmp_path: Path) -> None:
    """A broker on a unix socket is reached, and its absence is told with the path."""
    path = tmp_path / "m.sock"
    async with ScriptedBroker(unix=path) as broker:
        link = await connect(Address.parse(broker.url), Options("me"), Recorder())
        await link.ping()
        await link.close()
    error = await failed(broker.url)
    assert error.kind == "unreachable"
    assert str(error) == f"{path}: no such file or directory"


@pytest.mark.parametrize(
    ("levels", "answer", "asked"),
    [
        ([4], UNSUPPORTED_IN_5, [5, 4]),
        ([4], UNSUPPORTED_IN_3, [5, 4]),
        ([4], None, [5, 4]),
        ([3], UNSUPPORTED_IN_3, [5, 4, 3]),
        ([3], None, [5, 4, 3]),
        ([5], UNSUPPORTED_IN_5, [5]),
    ],
)
async def test_auto_finds_the_protocol(
    broker: ScriptedBroker, levels: list[int], answer: bytes | None, asked: list[int]
) -> None:
    """A broker that does not know MQTT 5 says so in its way, or closes; it is asked again in 3.1.1, then in 3.1."""
    broker.levels, broker.unsupported = levels, answer
    link = await connect(Address.parse(broker.url), Options("me"), Recorder())
    assert link.protocol == {3: "3.1", 4: "3.1.1", 5: "5"}[levels[0]]
    assert [packet.level for packet in broker.connects] == asked
    await link.close()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_broker_may_give_the_client_id(broker: ScriptedBroker, protocol: str) -> None:
    """Whoever has no client id of its own learns, in MQTT 5, which one it was given."""
    broker.connack["assigned_client_identifier"] = "you-7"
    link = await connect(Address.parse(broker.url), Options("", protocol=protocol), Recorder())
    assert broker.connects[0].client_id == ""
    assert link.limits.client_id == ("you-7" if protocol == "5" else "")
    await link.close()


async def test_a_protocol_that_was_asked_for_is_not_changed(broker: ScriptedBroker) -> None:
    """Only "auto" falls back."""
    broker.levels = [4]
    error = await failed(broker, protocol="5")
    assert isinstance(error, ConnectRefused)
    assert error.reason == 0x84
    assert str(error) == "refused by the broker: unsupported protocol version (0x84)"
    assert len(broker.connects) == 1


def test_what_may_mean_an_older_protocol() -> None:
    """Only an answer about the version, or none at all, is a reason to ask again in an older one."""
    assert older(ConnectRefused("", reason=0x84, level=5))
    assert older(ConnectRefused("", reason=1, level=5))
    assert not older(ConnectRefused("", reason=0x86, level=5))
    assert older(ConnectError("", kind="closed"))
    assert not any(older(ConnectError("", kind=kind)) for kind in ("name", "unreachable", "tls", "silent", "protocol"))


@pytest.mark.parametrize(
    ("protocol", "code", "words"),
    [
        ("5", 0x86, "refused by the broker: bad user name or password (0x86)"),
        ("5", 0x87, "refused by the broker: not authorised (0x87)"),
        ("auto", 0x89, "refused by the broker: server busy (0x89)"),
        ("5", 0xF0, "refused by the broker: unknown reason (0xF0)"),
        ("3.1.1", 4, "refused by the broker: bad user name or password (code 4)"),
        ("3.1.1", 5, "refused by the broker: not authorised (code 5)"),
        ("3.1", 2, "refused by the broker: client identifier not valid (code 2)"),
        ("3.1.1", 9, "refused by the broker: unknown reason (code 9)"),
    ],
)
async def test_a_refusal_is_told_in_words(broker: ScriptedBroker, protocol: str, code: int, words: str) -> None:
    """CONNACK's code is told with its meaning in that protocol, and the broker is asked once."""
    broker.refuse = code
    error = await failed(broker, protocol=protocol, username="user", password=b"hunter2")
    assert isinstance(error, ConnectRefused)
    assert (error.kind, error.reason, str(error)) == ("refused", code, words)
    assert len(broker.connects) == 1


async def test_the_brokers_own_words_are_passed_on_in_one_line(broker: ScriptedBroker) -> None:
    """A reason string is shown, without what could break a log."""
    answer = Connack(reason=0x87, properties={"reason_string": "ask\nBob\x1b[31m" + "x" * 500})
    broker.levels, broker.unsupported = [], encode(answer, 5)
    error = await failed(broker)
    assert str(error).startswith("refused by the broker: not authorised (0x87): ask Bob [31mxxx")
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("knob", "value", "kind", "words"),
    [
        ("mute_after", "accept", "silent", "does not answer CONNECT in time"),
        ("mute_after", "connect", "silent", "does not answer CONNECT in time"),
        ("close_on_connect", True, "closed", "the broker closed the connection, without an answer to CONNECT"),
    ],
)
async def test_a_broker_that_does_not_answer(
    broker: ScriptedBroker, knob: str, value: object, kind: str, words: str
) -> None:
    """No CONNACK in time, and a close without one, are told apart."""
    setattr(broker, knob, value)
    error = await failed(broker, QUICK)
    assert error.kind == kind
    assert words in str(error)


async def test_another_protocol_is_recognised() -> None:
    """Something that is not an MQTT broker is told as such."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        error = await failed(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert error.kind == "protocol"
    assert str(error) == "the answer to CONNECT is not MQTT: no packet begins with 0x48"


@pytest.mark.parametrize("wrong", [{"username": "a\0"}, {"password": bytes(65_536)}, {"will": Will("", b"", 3)}])
async def test_options_that_mqtt_cannot_carry_are_a_value_error(
    broker: ScriptedBroker, wrong: dict[str, object]
) -> None:
    """What cannot be said in CONNECT is told before anything is sent, and not as a broker's silence."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ, the rule is one
        await connect(Address.parse(broker.url), Options("me", **wrong), Recorder())  # type: ignore[arg-type]
    assert (broker.clients, broker.connects) == (0, [])


async def test_nobody_listens(broker: ScriptedBroker) -> None:
    """A refused connection is told with address and port."""
    await broker.stop()
    error = await failed(broker)
    assert error.kind == "unreachable"
    assert str(error) == f"127.0.0.1:{broker.port}: connection refused"
    assert isinstance(error, OSError)


async def test_nobody_answers() -> None:
    """A listener whose queue is full, as a host that drops packets, costs the timeout and no more."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        error = await failed(f"mqtt://127.0.0.1:{listener.getsockname()[1]}", QUICK)
    assert error.kind == "unreachable"
    assert "no answer from 127.0.0.1" in str(error)


def answering(*addresses: tuple[str, int]) -> Callable[[str, int], list[tuple[object, ...]]]:
    """Return a resolver that knows these addresses for every name."""
    return lambda host, port: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]


async def test_every_address_of_a_name_is_tried(broker: ScriptedBroker) -> None:
    """A name with a dead address, and one that accepts but is silent, is reached at the third."""
    async with ScriptedBroker() as gone, ScriptedBroker() as silent:
        silent.mute_after = "accept"
        await gone.stop()
        resolve = answering(*(("127.0.0.1", one.port) for one in (gone, silent, broker)))
        options = Options("me", connect_timeout=2 * QUICK)
        link = await connect(Address("mqtt", "broker.invalid", 1), options, Recorder(), resolve=resolve)
        await link.close()
        assert len(broker.connects) == 1


async def test_all_addresses_fail_and_all_are_told() -> None:
    """When no address works, each is told with what is wrong there."""
    async with ScriptedBroker() as gone, ScriptedBroker() as closing:
        closing.close_on_connect = True
        await gone.stop()
        resolve = answering(("127.0.0.1", closing.port), ("127.0.0.1", gone.port))
        with pytest.raises(ConnectError) as caught:
            await connect(Address("mqtt", "broker.invalid", 1), Options("me"), Recorder(), resolve=resolve)
    assert caught.value.kind == "closed"
    assert f"127.0.0.1:{gone.port}: connection refused" in str(caught.value)
    assert "without an answer to CONNECT" in str(caught.value)


async def test_a_refusal_is_not_asked_for_twice() -> None:
    """A broker that said no is not asked at its other addresses: it would only be the same broker."""
    async with ScriptedBroker() as one, ScriptedBroker() as other:
        one.refuse = other.refuse = 0x87
        resolve = answering(("127.0.0.1", one.port), ("127.0.0.1", other.port))
        with pytest.raises(ConnectRefused):
            await connect(Address("mqtt", "broker.invalid", 1), Options("me"), Recorder(), resolve=resolve)
        assert len(one.connects) + len(other.connects) == 1


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (UnicodeError("label too long"), "label too long"),
        (None, "has no address"),
    ],
)
async def test_a_name_that_is_not_known(failure: Exception | None, words: str) -> None:
    """A name that cannot be resolved is told with the name."""

    def resolve(host: str, port: int) -> list[tuple[object, ...]]:
        if failure:
            raise failure
        return []

    with pytest.raises(ConnectError, match=r"broker\.invalid") as caught:
        await connect(Address("mqtt", "broker.invalid", 1), Options("me"), Recorder(), resolve=resolve)
    assert caught.value.kind == "name"
    assert words in str(caught.value)


async def test_a_name_server_that_is_silent_costs_one_thread_and_no_time() -> None:
    """The loop goes on while a name is looked up, the timeout holds, and many attempts share one lookup."""
    asked, release = [], threading.Event()

    def resolve(host: str, port: int) -> list[tuple[object, ...]]:
        asked.append((host, threading.current_thread()))
        release.wait(30)
        return []

    async def attempt() -> str:
        address = Address("mqtt", "broker.invalid", 1)
        with pytest.raises(ConnectError) as caught:
            await connect(address, Options("me", connect_timeout=QUICK), Recorder(), resolve=resolve)
        assert caught.value.kind == "name"
        return str(caught.value)

    try:
        words = await asyncio.wait_for(asyncio.gather(*(attempt() for _ in range(5))), 10)
        assert all(one.startswith("the name broker.invalid could not be resolved in time") for one in words)
        ((host, thread),) = asked
        assert host == "broker.invalid"
        assert thread.daemon  # the end of the process does not wait for it
    finally:
        release.set()
        thread.join()


@pytest.mark.parametrize("stage", ["name", "silent"])
async def test_cancelling_leaves_nothing_open(broker: ScriptedBroker, stage: str) -> None:
    """Whoever gives up while a link is being made leaves no socket and no task; the fixtures look for both."""
    broker.mute_after = "connect"
    release = threading.Event()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def resolve(host: str, port: int) -> list[tuple[object, ...]]:
        loop.call_soon_threadsafe(asked.set)
        release.wait(30)
        return []

    host = "broker.invalid" if stage == "name" else "127.0.0.1"
    address = Address("mqtt", host, broker.port)
    opening = asyncio.ensure_future(connect(address, Options("me"), Recorder(), resolve=resolve))
    if stage == "name":
        await asyncio.wait_for(asked.wait(), 5)
    else:
        await broker.until(lambda: len(broker.connects) == 1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    release.set()
    await broker.until(lambda: broker.clients == 0)


async def test_what_comes_with_the_connack_is_told_after_connect(broker: ScriptedBroker) -> None:
    """A broker that sends at once is heard when the owner has the link in hand, and not before."""
    # More than one read can take, so that the rest waits in the socket meanwhile.
    broker.after_connack = b"".join(encode(Publish("t", b"%d" % n), 5) for n in range(50_000))
    recorder = Recorder()
    link = await connect(Address.parse(broker.url), Options("me"), recorder)
    assert recorder.messages == []
    await recorder.until(lambda: len(recorder.messages) == 50_000)
    assert [int(message.payload) for message in recorder.messages] == list(range(50_000))
    await link.close()


async def test_a_breach_that_comes_with_the_connack_loses_the_link(broker: ScriptedBroker) -> None:
    """A broker that greets and then talks nonsense was connected, and is lost."""
    broker.after_connack = b"\x00"
    recorder = Recorder()
    link = await connect(Address.parse(broker.url), Options("me"), recorder)
    assert await recorder.loss() == "the broker broke the protocol: no packet begins with 0x00"
    await link.close()


async def test_200_attempts_leave_nothing(broker: ScriptedBroker) -> None:
    """Attempt after attempt, for days, leaves no socket behind, whether refused, closed or welcomed."""
    for count in range(200):
        broker.refuse = (None, 0x87)[count % 2]
        broker.close_on_connect = count % 3 == 0
        try:
            link = await connect(Address.parse(broker.url), Options("me", protocol="5"), Recorder())
        except ConnectError:
            continue
        link.abort()
    await broker.until(lambda: broker.clients == 0)
