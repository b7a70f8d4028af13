"""TLS: a broker that is not who it should be hears nothing of us, and the reason is told in words."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from gateway.mqtt import Address, ConnectError, Options, Tls, connect
from gateway.mqtt.tls import context
from tests.mqtt.certificates import Authority, server
from tests.mqtt.recorder import Recorder
from tests.scripted_broker import ScriptedBroker

Pair = tuple[Path, Path]


async def failure(url: str, tls: Tls | None, timeout: float = 5.0) -> str:
    """Return why no link could be made."""
    options = Options("me", username="user", password=b"hunter2", tls=tls, connect_timeout=timeout)
    with pytest.raises(ConnectError) as caught:
        await connect(Address.parse(url), options, Recorder())
    assert caught.value.kind == "tls"
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_link_over_tls(authority: Authority, certificate: Pair, protocol: str) -> None:
    """Over TLS everything is as it is without: messages, acknowledgements, a quick and orderly end."""
    async with ScriptedBroker(tls=server(certificate)) as broker:
        recorder = Recorder()
        options = Options("me", tls=Tls(ca=str(authority.ca)), protocol=protocol)
        link = await connect(Address.parse(broker.url), options, recorder)
        transport = link._transport
        assert transport is not None
        assert transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        link.publish([(b"t", bytes(3000), n) for n in range(1000)])
        await recorder.until(lambda: len(recorder.tokens) == 1000)
        await asyncio.wait_for(link.close(30), 5)
        assert len(broker.published) == 1000
        assert broker.wills == []


async def test_a_broker_over_tls_that_goes_is_lost(authority: Authority, certificate: Pair) -> None:
    """A TLS link that breaks is told like any other."""
    async with ScriptedBroker(tls=server(certificate)) as broker:
        recorder = Recorder()
        link = await connect(Address.parse(broker.url), Options("me", tls=Tls(ca=str(authority.ca))), recorder)
        broker.drop()
        assert await recorder.loss()
        await link.close()


async def test_a_frozen_broker_over_tls_is_left_in_time(authority: Authority, certificate: Pair) -> None:
    """Neither the deadline nor the end waits for a goodbye that does not come."""
    async with ScriptedBroker(tls=server(certificate)) as broker:
        recorder = Recorder()
        options = Options("me", tls=Tls(ca=str(authority.ca)), ack_timeout=0.2)
        link = await connect(Address.parse(broker.url), options, recorder)
        second = await connect(Address.parse(broker.url), options, Recorder())
        broker.freeze()
        link.publish([(b"t", b"", 1)])
        assert await recorder.loss(0.7) == "no acknowledgement for 0.2 s"
        await asyncio.wait_for(asyncio.gather(link.close(0.2), second.close(0.2)), 0.7)


async def test_a_certificate_of_an_unknown_ca_is_refused(stranger: Authority, certificate: Pair) -> None:
    """A broker whose CA is not trusted is not told our name and password; nor by the system's store."""
    async with ScriptedBroker(tls=server(certificate)) as broker:
        words = "TLS: the broker's certificate is not signed by a CA that is trusted here"
        assert (await failure(broker.url, Tls(ca=str(stranger.ca)))).startswith(words)
        assert (await failure(broker.url, None)).startswith(words)
        assert broker.connects == []


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    """A broker with somebody else's certificate is not told our name and password."""
    async with ScriptedBroker(tls=server(authority.sign("other", "DNS:other.example"))) as broker:
        words = await failure(broker.url, Tls(ca=str(authority.ca)))
        assert words == "TLS: the broker's certificate is not for the name 127.0.0.1"
        assert broker.connects == []
        # The name may be given when the address is not it.
        tls = Tls(ca=str(authority.ca), server_name="other.example")
        link = await connect(Address.parse(broker.url), Options("me", tls=tls), Recorder())
        await link.close()
        words = await failure(broker.url, Tls(ca=str(authority.ca), server_name=".example"))
        assert words.startswith("TLS: .example cannot be the name in a certificate")


async def test_a_certificate_that_has_expired_is_refused(authority: Authority) -> None:
    """An old certificate is told as what it is."""
    async with ScriptedBroker(tls=server(authority.sign("old", days=-1))) as broker:
        assert await failure(broker.url, Tls(ca=str(authority.ca))) == "TLS: the broker's certificate has expired"
        assert broker.connects == []


async def test_insecure_takes_any_certificate(certificate: Pair) -> None:
    """Only who writes `insecure` gets it."""
    async with ScriptedBroker(tls=server(certificate)) as broker:
        link = await connect(Address.parse(broker.url), Options("me", tls=Tls(insecure=True)), Recorder())
        await link.close()
    assert not Tls().insecure


async def test_a_client_certificate_lets_in(authority: Authority, certificate: Pair) -> None:
    """A broker that asks for a client certificate gets ours, with a key that may have a password."""
    async with ScriptedBroker(tls=server(certificate, clients=authority.ca)) as broker:
        for password in ("", "sesame"):
            own, key = authority.sign(f"client{password}", password=password)
            tls = Tls(ca=str(authority.ca), certificate=str(own), key=str(key), key_password=password or None)
            link = await connect(Address.parse(broker.url), Options("me", tls=tls), Recorder())
            await link.close()


async def test_plain_mqtt_on_the_port_is_recognised() -> None:
    """mqtts to a port where no TLS is spoken is told as that, if the broker says anything at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"\x20\x02\x00\x01\x00")
        await reader.read()
        writer.close()

    plain = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with plain:
        port = plain.sockets[0].getsockname()[1]
        words = await failure(f"mqtts://127.0.0.1:{port}", None)
    assert words == "TLS: no TLS is spoken there; is it the port for plain MQTT?"
    async with ScriptedBroker() as broker:
        words = await failure(broker.url.replace("mqtt:", "mqtts:"), None)
        assert words == "TLS: the broker closed the connection during the handshake; is TLS spoken on this port?"


async def test_a_handshake_that_is_not_answered_ends_in_time() -> None:
    """A broker that accepts and says nothing costs the timeout and no more."""
    async with ScriptedBroker() as broker:
        broker.mute_after = "accept"
        words = await failure(broker.url.replace("mqtt:", "mqtts:"), None, timeout=0.3)
        assert "TLS: no answer from 127.0.0.1" in words


async def test_files_that_are_wrong_are_named(authority: Authority, certificate: Pair, tmp_path: Path) -> None:
    """What is wrong with a certificate file is told with its path, before any broker is asked."""
    ca, (own, key) = str(authority.ca), certificate
    _, other_key = authority.sign("another")
    locked, locked_key = authority.sign("locked", password="sesame")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no certificate")
    missing = str(tmp_path / "missing")
    for tls, words in (
        (Tls(ca=missing), f"TLS: the CA file {missing} cannot be read: no such file or directory"),
        (Tls(ca=str(nonsense)), f"TLS: no certificate (PEM) can be read from the CA file {nonsense}"),
        (Tls(certificate=missing, key=str(key)), f"TLS: the certificate file {missing} cannot be read"),
        (Tls(certificate=str(own), key=missing), f"TLS: the key file {missing} cannot be read"),
        (Tls(certificate=str(nonsense), key=str(key)), "TLS: no certificate and key (PEM) can be read from"),
        (Tls(certificate=str(own), key=str(nonsense)), "TLS: no certificate and key (PEM) can be read from"),
        (Tls(certificate=str(own)), "TLS: no certificate and key (PEM) can be read from"),
        (Tls(certificate=str(own), key=str(other_key)), "TLS: the key does not belong to the certificate"),
        (Tls(certificate=str(locked), key=str(locked_key)), "TLS: the key has a password"),
        (Tls(certificate=str(locked), key=str(locked_key), key_password="hunter2"), "TLS: the key's password is wrong"),
    ):
        told = await failure("mqtts://127.0.0.1:1", tls)
        assert told.startswith(words)
        assert "sesame" not in told
    # A folder with hashed names does as well.
    assert context(Tls(ca=str(authority.folder))).verify_mode is ssl.CERT_REQUIRED
    assert context(Tls(ca=ca)).minimum_version is ssl.TLSVersion.TLSv1_2
