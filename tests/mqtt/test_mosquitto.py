"""The engine with the real mosquitto: what it says there is what everybody else understands."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from gateway.mqtt import Address, ConnectError, Connection, ConnectRefused, Options, Tls, Will, connect
from tests.mqtt.certificates import Authority
from tests.mqtt.mosquitto import Mosquitto
from tests.mqtt.recorder import Recorder

pytestmark = pytest.mark.system
PROTOCOLS = pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])


async def dial(url: str, recorder: Recorder | None = None, client_id: str = "me", **options: object) -> Connection:
    return await connect(Address.parse(url), Options(client_id, **options), recorder or Recorder())  # type: ignore[arg-type]


@PROTOCOLS
async def test_messages_go_through_and_come_back(tmp_path: Path, protocol: str) -> None:
    """What one link publishes at QoS 1 another receives, in order, each once, and a will arrives when a link breaks."""
    heard = Recorder()
    with Mosquitto(tmp_path, "max_inflight_messages 0", "max_queued_messages 0") as broker:
        listening = await dial(broker.url, heard, "listener", protocol=protocol)
        assert await listening.subscribe([("t/#", 1), ("gone", 0)]) == [1, 0]
        recorder = Recorder()
        will = Will("gone", "vorbei ü".encode(), 0, retain=False)
        link = await dial(broker.url, recorder, protocol=protocol, will=will)
        assert link.protocol == protocol
        for first in range(0, 5000, 500):
            link.publish([(b"t/%d" % (n % 3), b"%d" % n, n) for n in range(first, first + 500)])
            await recorder.until(lambda first=first: len(recorder.tokens) == first + 500)
        assert recorder.tokens == list(range(5000))
        await heard.until(lambda: len(heard.messages) == 5000)
        assert [int(message.payload) for message in heard.messages] == list(range(5000))
        assert {message.topic for message in heard.messages} == {"t/0", "t/1", "t/2"}
        await link.ping()
        link.abort()
        await heard.until(lambda: len(heard.messages) == 5001)
        assert heard.messages[-1].payload == will.payload
        await listening.close()
        assert "Client listener disconnected." in broker.log


async def test_the_default_receive_maximum_of_mosquitto_is_obeyed(tmp_path: Path) -> None:
    """mosquitto allows 20 messages in flight in MQTT 5 unless told otherwise; nobody to receive them is success."""
    recorder = Recorder()
    with Mosquitto(tmp_path) as broker:
        link = await dial(broker.url, recorder, protocol="auto")
        assert (link.protocol, link.limits.receive_maximum, link.room) == ("5", 20, 20)
        link.publish([(b"t", b"", n) for n in range(20)])
        assert link.room == 0
        await recorder.until(lambda: len(recorder.tokens) == 20)
        assert recorder.refusals == []
        await link.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    """mosquitto is reached on its unix socket."""
    with Mosquitto(tmp_path, unix=True) as broker:
        link = await dial(broker.url)
        await link.ping()
        await link.close()


@pytest.mark.parametrize(
    ("protocol", "words"),
    [("3.1.1", "not authorised (code 5)"), ("5", "not authorised (0x87)"), ("auto", "not authorised (0x87)")],
)
async def test_a_wrong_password_is_told_in_words(tmp_path: Path, protocol: str, words: str) -> None:
    """Name and password are checked by the broker; its refusal is told, the password is not."""
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    arguments = ["mosquitto_passwd", "-b", str(passwords), "user", "sesame"]
    subprocess.run(arguments, check=True, capture_output=True, timeout=10)
    with Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        for login in ({}, {"username": "user", "password": b"hunter2"}):
            with pytest.raises(ConnectRefused) as caught:
                await dial(broker.url, protocol=protocol, **login)
            assert str(caught.value) == f"refused by the broker: {words}"
        link = await dial(broker.url, protocol=protocol, username="user", password=b"sesame")
        await link.close()


def secured(tmp_path: Path, authority: Authority, pair: tuple[Path, Path], *lines: str) -> Mosquitto:
    certificate, key = pair
    return Mosquitto(tmp_path, f"cafile {authority.ca}", f"certfile {certificate}", f"keyfile {key}", *lines)


@PROTOCOLS
async def test_tls(tmp_path: Path, authority: Authority, certificate: tuple[Path, Path], protocol: str) -> None:
    """Over TLS messages go through, and the end is orderly and quick."""
    recorder = Recorder()
    with secured(tmp_path, authority, certificate) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        link = await dial(url, recorder, protocol=protocol, tls=Tls(ca=str(authority.ca)))
        link.publish([(b"t", bytes(5000), n) for n in range(20)])
        await recorder.until(lambda: len(recorder.tokens) == 20)
        await asyncio.wait_for(link.close(30), 5)
        assert "Client me disconnected." in broker.log


@pytest.mark.parametrize("what", ["ca", "name", "expired"])
async def test_a_broker_that_is_not_who_it_should_be_hears_no_connect(
    tmp_path: Path, authority: Authority, stranger: Authority, what: str
) -> None:
    """With the wrong CA, the wrong name or an old certificate, TLS ends before CONNECT."""
    made = stranger if what == "ca" else authority
    pair = made.sign(
        f"broker-{what}", "DNS:other.example" if what == "name" else "IP:127.0.0.1", -1 if what == "expired" else 2
    )
    with secured(tmp_path, made, pair) as broker:
        with pytest.raises(ConnectError) as caught:
            await dial(broker.url.replace("mqtt:", "mqtts:"), tls=Tls(ca=str(authority.ca)))
        expected = {"ca": "not signed by a CA", "name": "not for the name 127.0.0.1", "expired": "has expired"}[what]
        assert caught.value.kind == "tls"
        assert expected in str(caught.value)
        assert "New client connected" not in broker.log


async def test_a_client_certificate_that_is_asked_for(
    tmp_path: Path, authority: Authority, stranger: Authority, certificate: tuple[Path, Path]
) -> None:
    """A broker that wants a client certificate lets ours in; its refusal of none, or of another, is told as that."""
    with secured(tmp_path, authority, certificate, "require_certificate true") as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        own, key = authority.sign("client")
        link = await dial(url, tls=Tls(ca=str(authority.ca), certificate=str(own), key=str(key)))
        await link.close()
        own, key = stranger.sign("client")
        for tls, words in (
            (Tls(ca=str(authority.ca)), "TLS: the broker asks for a client certificate"),
            (Tls(ca=str(authority.ca), certificate=str(own), key=str(key)), "does not know the CA"),
        ):
            with pytest.raises(ConnectError, match=words) as caught:
                await dial(url, tls=tls)
            assert caught.value.kind == "tls"


async def test_tls_on_the_plain_port_and_the_other_way_round(
    tmp_path: Path, authority: Authority, certificate: tuple[Path, Path]
) -> None:
    """The wrong scheme for a port is told at once."""
    with Mosquitto(tmp_path) as broker:
        with pytest.raises(ConnectError, match="is TLS spoken on this port") as caught:
            await dial(broker.url.replace("mqtt:", "mqtts:"))
        assert caught.value.kind == "tls"
    with secured(tmp_path, authority, certificate) as broker, pytest.raises(ConnectError) as caught:
        await dial(broker.url)
    assert caught.value.kind in ("closed", "protocol")


async def test_a_stopped_broker_is_left(tmp_path: Path) -> None:
    """A broker that is stopped in the middle is found by the first acknowledgement that is overdue."""
    recorder = Recorder()
    with Mosquitto(tmp_path) as broker:
        link = await dial(broker.url, recorder, ack_timeout=0.3)
        broker.freeze()
        link.publish([(b"t", b"", 1)])
        assert await recorder.loss(0.8) == "no acknowledgement for 0.3 s"
        with pytest.raises(ConnectError) as caught:
            await dial(broker.url, connect_timeout=0.3)
        assert caught.value.kind == "silent"
        await link.close()
