"""The client for threads: every call returns, from any thread but its own, and means what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import (
    BlockingClient,
    CalledFromCallback,
    Client,
    ClientClosed,
    Delivery,
    Message,
    NotConnected,
    OutboxError,
    OutboxFull,
    Outcome,
    SubscriptionRefused,
)
from tests.client.beside import Beside
from tests.client.conftest import NOWHERE

ROOT = Path(__file__).resolve().parents[2]

Make = Callable[..., BlockingClient]


@pytest.fixture
def beside() -> Iterator[Beside]:
    with Beside() as made:
        yield made


@pytest.fixture
def make(beside: Beside) -> Make:
    def made(*brokers: Any, **options: Any) -> BlockingClient:
        quick = {"connect_timeout": 5.0, "ack_timeout": 5.0, "reconnect_min": 0.01, "reconnect_max": 0.05}
        return BlockingClient(list(brokers) or beside.broker.url, **{**quick, **options})

    return made


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("store", [False, True])
def test_a_message_is_delivered(make: Make, beside: Beside, tmp_path: Path, qos: int, store: bool) -> None:
    """`publish` returns at once, `wait` with the end; with and without a store, stored or not."""
    with make(store=tmp_path / "store" if store else None) as client:
        delivery = client.publish("a", b"1", qos=qos)
        assert delivery.wait(5) is Outcome.ACKNOWLEDGED
        assert client.publish("a", "2", qos, stored=True).wait(5) == "acknowledged"
        assert client.flush(5)
        beside.until(lambda: len(beside.broker.published) == 2)
    assert beside.broker.published == [("a", b"1", qos, False), ("a", b"2", qos, False)]
    assert len(beside.broker.disconnects) == 1


def test_what_is_set_aside_can_be_sent_again_or_given_up(make: Make, beside: Beside) -> None:
    """A message that no broker takes is visible, and can be re-played or put into the ledger."""
    beside.broker.puback_reason = lambda packet: 0x99
    with make() as client:
        assert client.publish("a", b"1").wait(5) == client.publish("a", b"2").wait(5) == "rejected"
        first, second = client.quarantined()
        assert client.discard([first.reading.id]) == 1
        beside.broker.puback_reason = lambda packet: 0
        assert client.retry() == 1
        assert client.flush(5)
        assert client.quarantined() == []
        assert any(loss.first_seq <= first.reading.seq <= loss.last_seq for loss in client.ledger())
    assert beside.broker.published[-1][1] == b"2"
    assert second.reason


def test_it_waits_for_no_broker(make: Make, beside: Beside) -> None:
    """Opening and publishing do not block without a broker; `wait` and `flush` say that it is still pending."""
    beside.run(beside.broker.stop())
    with make() as client:
        deliveries = [client.publish("a", str(n)) for n in range(100)]
        assert deliveries[0].wait(0.01) is Outcome.PENDING
        assert not client.flush(0.01)
        assert client.status.waiting == 100
        with pytest.raises(NotConnected, match=r"no broker within 0.01 s: mqtt://127.0.0.1:\d+: "):
            client.connected(0.01)
        beside.run(beside.broker.start())
        assert client.connected(5).protocol == "5"
        assert client.flush(5)
    assert [int(payload) for _, payload, _, _ in beside.broker.published] == list(range(100))


def test_several_threads_publish_at_once(make: Make, beside: Beside) -> None:
    """Each thread's messages arrive, all of them, once, in its order."""
    with make() as client:

        def publish(name: str) -> None:
            for n in range(1000):
                client.publish(name, str(n), stored=n % 100 == 99)

        threads = [threading.Thread(target=publish, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert client.flush(10)
    for number in range(4):
        assert [int(payload) for topic, payload, _, _ in beside.broker.published if topic == str(number)] == list(
            range(1000)
        )


@pytest.mark.parametrize("threads", [1, 4])
def test_a_full_client_refuses_to_the_caller(make: Make, threads: int) -> None:
    """However fast threads publish, exactly as many are accepted as may wait; the others are told, and none is lost."""
    told: list[Delivery] = []
    accepted: list[Delivery] = []
    refused = []
    with make(NOWHERE, max_count=1000, on_delivered=told.append) as client:

        def publish() -> None:
            for _ in range(1000):
                try:
                    accepted.append(client.publish("a", b"x"))
                except OutboxFull:
                    refused.append(1)

        running = [threading.Thread(target=publish) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(30)
        with pytest.raises(OutboxFull, match="1000 wait, and max_count is 1000"):
            client.publish("a", b"x")
        assert (len(accepted), len(refused)) == (1000, 1000 * (threads - 1))
        assert client.status.waiting == 1000
        assert told == []
        client.close(0)
    assert {delivery.reason for delivery in accepted} == {"closed"}


def test_more_than_may_be_on_its_way_is_waited_for(make: Make, beside: Beside) -> None:
    """A thread that is faster than the client's is slowed down, and nothing is refused that there is room for."""
    with make() as client:
        for n in range(30_000):
            client.publish("a", b"%d" % n)
        assert client.flush(30)
    assert [int(payload) for _, payload, _, _ in beside.broker.published] == list(range(30_000))


def test_messages_are_iterated_over(make: Make) -> None:
    """A blocking iterator ends after a silence of `timeout`, and with the client; None says that there was nothing."""
    with make() as client:
        with client.messages("a/+", qos=2) as messages:
            assert messages.granted == 2
            for n in range(3):
                client.publish(f"a/{n}", str(n), qos=2)
            assert [message.payload for _, message in zip(range(3), messages, strict=False)] == [b"0", b"1", b"2"]
            assert messages.get(0.01) is None
            assert not messages.ended
        assert list(messages) == []
        assert [message.payload for message in client.messages("a/+", timeout=0.01)] == []


def test_an_iterator_that_is_forgotten_unsubscribes(make: Make, beside: Beside) -> None:
    """`break` is an end here as well."""
    with make() as client:
        client.publish("a", b"1", retain=True).wait(5)
        for _ in client.messages("a", timeout=5):
            break
        beside.until(lambda: len(beside.broker.unsubscribes) == 1)


def test_a_waiting_iterator_ends_with_the_client(make: Make) -> None:
    """A thread that waits for a message does not outlive the client."""
    ended = threading.Event()
    with make() as client:
        messages = client.messages("a").__enter__()

        def wait() -> None:
            assert list(messages) == []
            ended.set()

        thread = threading.Thread(target=wait)
        thread.start()
    assert ended.wait(5)
    thread.join(5)


def test_a_slow_thread_stops_the_flood_and_loses_nothing(make: Make, beside: Beside) -> None:
    """Beyond `max_incoming` the socket is not read, and goes on being read when the thread has caught up."""
    count = 5000
    with make(max_incoming=50) as client, client.messages("a", timeout=5) as messages, make() as sender:
        for n in range(count):
            sender.publish("a", b"%d" % n + b"x" * 1000)
        assert sender.flush(10)
        assert [int(message.payload.rstrip(b"x")) for _, message in zip(range(count), messages, strict=False)] == list(
            range(count)
        )


def test_callbacks_run_and_may_answer(make: Make) -> None:
    """A callback publishes its answer with `publish_nowait`, in the order in which it was asked."""
    answers: list[bytes] = []
    done = threading.Event()

    def answered(message: Message) -> None:
        answers.append(message.payload)
        if len(answers) == 100:
            done.set()

    with make() as client:
        assert client.subscribe("ask", lambda message: client.publish_nowait("answer", message.payload)) == 1
        assert client.subscribe("answer", answered, timeout=5) == 1
        for n in range(100):
            client.publish("ask", str(n))
        assert done.wait(10)
        client.unsubscribe("ask")
    assert answers == [str(n).encode() for n in range(100)]


@pytest.mark.parametrize("call", ["publish", "flush", "connected", "close", "subscribe", "messages", "wait", "ledger"])
def test_a_call_from_its_own_callback_is_an_error_and_no_deadlock(make: Make, call: str) -> None:
    """What would wait for the very thread that it runs on says so, and the client goes on."""
    raised: list[Exception] = []
    called = threading.Event()
    arguments = {"publish": ("b",), "subscribe": ("b",), "messages": ("b",)}.get(call, ())

    with make() as client:
        pending = client.publish_nowait("b") if call == "wait" else None
        target: Any = Delivery() if pending else client

        def callback(_: Message) -> None:
            try:
                getattr(target, call)(*arguments)
            except CalledFromCallback as error:
                raised.append(error)
            called.set()

        client.subscribe("a", callback)
        client.publish("a", b"1")
        assert called.wait(5)
        assert client.flush(5)
    assert len(raised) == 1
    assert isinstance(raised[0], RuntimeError)


def test_a_refused_subscription_is_told_to_the_thread(make: Make, beside: Beside) -> None:
    """Errors come to the caller, whichever thread found them."""
    beside.broker.granted = lambda name, qos: 0x80
    with make() as client:
        with pytest.raises(SubscriptionRefused):
            client.subscribe("a", print)
        with pytest.raises(SubscriptionRefused), client.messages("a"):
            pass
        with pytest.raises(ValueError, match="wildcard"):
            client.publish("a/#")


def test_a_subscription_that_waits_for_a_link_can_be_given_up(make: Make) -> None:
    """Without a broker a subscription waits as long as it was told to."""
    with make(NOWHERE) as client:
        with pytest.raises(TimeoutError):
            client.subscribe("a", print, timeout=0.01)
        client.close(0)


def test_closing_returns_with_a_frozen_broker_and_twice(make: Make, beside: Beside) -> None:
    """Whatever the broker does not do, `flush` and `close` are over in time, and a second close is nothing."""
    with make(ack_timeout=60, keep_alive=0) as client:
        client.connected(5)
        beside.do(beside.broker.freeze)
        delivery = client.publish("a", b"1")
        began = time.monotonic()
        assert not client.flush(0.1)
        client.close(0.1)
        assert time.monotonic() - began < 8
        assert (delivery.wait(0), delivery.reason) == ("dropped", "closed")
        client.close()
        with pytest.raises(ClientClosed, match="closed"):
            client.publish("a")
        with pytest.raises(ClientClosed, match="closed"):
            client.flush()
        assert client.status.broker is None
    beside.do(beside.broker.thaw)


def test_closing_wakes_the_threads_that_wait(make: Make) -> None:
    """Nobody waits for ever for a client that is gone."""
    outcomes: list[Any] = []
    with make(NOWHERE) as client:
        delivery = client.publish("a", b"1")
        ready = threading.Barrier(4)

        def waits(call: Callable[[], Any]) -> None:
            ready.wait(5)
            try:
                outcomes.append(call())
            except ClientClosed:
                outcomes.append("closed")

        calls: list[Callable[[], Any]] = [delivery.wait, client.flush, client.connected]
        threads = [threading.Thread(target=waits, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        ready.wait(5)
        client.close(0.1)
        for thread in threads:
            thread.join(5)
    assert len(outcomes) == 3
    assert Outcome.DROPPED in outcomes


def test_what_cannot_be_opened_is_told(make: Make, tmp_path: Path) -> None:
    """An error while opening comes to whoever opens, and leaves no thread behind."""
    with make(NOWHERE, store=tmp_path / "store", commit_interval=1), pytest.raises(OutboxError):
        make(NOWHERE, store=tmp_path / "store").open()
    with pytest.raises(OutboxError), make(NOWHERE, store=tmp_path):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "gateway client"]


def test_a_client_is_opened_once(make: Make) -> None:
    """A closed client stays closed, and one that was never opened says what to do."""
    client = make(NOWHERE)
    with pytest.raises(ClientClosed, match="open"):
        client.publish("a")
    client.close()
    with client:
        client.close(0)
    with pytest.raises(ClientClosed, match="make a new one"):
        client.open()


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # that is what this is about
def test_a_forked_child_is_told(make: Make) -> None:
    """The child of a fork has no thread to work for it: every call says so at once, and the parent is not harmed."""
    with make() as client:
        client.connected(5)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            words = []
            for call in (lambda: client.publish("a"), client.flush, client.connected, client.close):
                try:
                    call()
                    words.append("ok")
                except BaseException as error:  # noqa: BLE001 - nothing may leave the child
                    words.append(f"{type(error).__name__}: {error}")
            os.write(writing, "\n".join(words).encode())
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            told = pipe.read().splitlines()
        os.waitpid(child, 0)
        assert [line.partition(":")[0] for line in told] == ["ClientClosed"] * 3 + ["ok"]
        assert "belongs to the process that has opened it" in told[0]
        assert client.publish("a").wait(5) == "acknowledged"


FORGETFUL = """
import sys
from gateway import BlockingClient
client = BlockingClient(sys.argv[1]).open()
for n in range(int(sys.argv[2])):
    client.publish("a", str(n))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.system
def test_a_program_that_forgets_to_close_still_sends(beside: Beside) -> None:
    """The end of the process closes what is open, and nothing is printed that nobody asked for."""
    done = run(FORGETFUL, beside.broker.url, "2000")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(beside.broker.published) == 2000
    assert len(beside.broker.disconnects) == 1


@pytest.mark.system
def test_a_program_ends_though_its_broker_does_not_answer(beside: Beside) -> None:
    """No thread of ours holds up the end of a process."""
    beside.do(beside.broker.freeze)
    began = time.monotonic()
    assert run(FORGETFUL, beside.broker.url, "10").returncode == 0
    assert time.monotonic() - began < 20


def test_both_faces_take_the_same_arguments() -> None:
    """What one can be told, the other can."""
    options = {"username": "me", "password": "secret", "window": 5, "trace": True}
    one, other = Client(NOWHERE, None, "id", **options), BlockingClient(NOWHERE, None, "id", **options)
    assert vars(one).items() >= {"window": 5, "client_id": "id"}.items()
    assert {name: vars(other)[name] for name in options} == options
    assert other._client._brokers == one._brokers
