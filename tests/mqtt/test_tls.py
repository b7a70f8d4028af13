"""TLS: a broker that is not who it should be hears nothing of us, and the reason is told in words."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from gateway.mqtt import Address, ConnectError, Options, Tls, connect
from gateway.mqtt.tls import complaint, context
from gateway.mqtt.validity import peer_certificate_end
from tests.mqtt.certificates import Authority, alerting, files, renewed, server
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
        transport = link.transport
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


@pytest.mark.alone
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
        assert words.startswith("TLS: the broker's certificate is not for the name 127.0.0.1; if it is the right one")
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
        words = await failure(broker.url, Tls(ca=str(authority.ca)))
        assert words.startswith("TLS: the broker's certificate has expired; it must be renewed there")
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


async def test_a_name_is_checked_as_an_address_is(authority: Authority, certificate: Pair) -> None:
    """A certificate for an IP address does for that address only, and one for a name for that name only."""
    by_name = server(authority.sign("by-name", "DNS:localhost"))
    by_address = server(authority.sign("by-address", "IP:127.0.0.1"))
    tls = Tls(ca=str(authority.ca))
    for chosen, good, bad in ((by_name, "localhost", "127.0.0.1"), (by_address, "127.0.0.1", "localhost")):
        async with ScriptedBroker(tls=chosen) as broker:
            for host in (good, bad):
                address = Address("mqtts", host, broker.port)
                resolve = lambda host, port: socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)  # noqa: E731
                opening = connect(address, Options("me", tls=tls), Recorder(), resolve=resolve)
                if host == good:
                    await (await opening).close()
                else:
                    with pytest.raises(ConnectError, match=f"not for the name {bad}"):
                        await opening
            assert len(broker.connects) == 1


async def test_the_name_is_asked_for_and_protocols_are_offered(authority: Authority, certificate: Pair) -> None:
    """The server hears which name is wanted (SNI), and which protocols can be spoken (ALPN)."""
    asked: list[str | None] = []
    chosen = server(authority.sign("sni", "DNS:one.example,IP:127.0.0.1"))
    chosen.set_alpn_protocols(["mqtt"])
    chosen.sni_callback = lambda link, name, context: asked.append(name)
    async with ScriptedBroker(tls=chosen) as broker:
        tls = Tls(ca=str(authority.ca), server_name="one.example", alpn=("x-amzn-mqtt-ca", "mqtt"))
        link = await connect(Address.parse(broker.url), Options("me", tls=tls), Recorder())
        assert asked == ["one.example"]
        assert link.transport is not None
        assert link.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "mqtt"
        await link.close()


async def test_the_minimum_version_is_kept(authority: Authority, certificate: Pair) -> None:
    """TLS 1.2 is the least; 1.3 can be insisted on; what is older is told as that."""
    old = server(certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with ScriptedBroker(tls=old) as broker:
        link = await connect(Address.parse(broker.url), Options("me", tls=Tls(ca=str(authority.ca))), Recorder())
        await link.close()
    with alerting(old) as url:
        words = await failure(url, Tls(ca=str(authority.ca), minimum_version="1.3"))
    assert words == "TLS: only another version of TLS is spoken there"
    # What is older than 1.2 is not even asked for by OpenSSL, unless it is told to.
    assert context(Tls()).minimum_version is ssl.TLSVersion.TLSv1_2
    assert context(Tls(minimum_version="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"minimum_version": "1.1"}, 'minimum_version must be "1.2" or "1.3", not \'1.1\''),
        ({"alpn": ("",)}, "alpn: a protocol is 1 to 255 ASCII characters, not ''"),
        ({"alpn": ("ü",)}, "alpn: a protocol is 1 to 255 ASCII characters, not 'ü'"),
    ],
)
def test_what_tls_cannot_be_told(wrong: dict[str, object], words: str) -> None:
    """A wrong option is refused when it is given, with its name and what it may be."""
    with pytest.raises(ValueError, match=r"must be|characters") as caught:
        Tls(**wrong)  # type: ignore[arg-type]
    assert str(caught.value) == words


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("own", "words"),
    [
        (None, "TLS: the broker asks for a client certificate; give certificate and key"),
        ("stranger", "TLS: the broker refuses the client certificate: it does not know the CA that signed it"),
        ("old", "TLS: the broker refuses the client certificate: it has expired; renew it"),
    ],
)
async def test_a_client_certificate_that_is_refused(
    authority: Authority,
    stranger: Authority,
    certificate: Pair,
    own: str | None,
    words: str,
    version: ssl.TLSVersion,
) -> None:
    """A refusal of our certificate is told as that, also in TLS 1.3, where it comes after the handshake."""
    asking = server(certificate, clients=authority.ca)
    asking.minimum_version = asking.maximum_version = version
    tls = Tls(ca=str(authority.ca))
    if own is not None:
        signer, days = (stranger, 2) if own == "stranger" else (authority, -1)
        pair = signer.sign(f"own-{own}", days=days)
        tls = Tls(ca=str(authority.ca), certificate=str(pair[0]), key=str(pair[1]))
    with alerting(asking) as url:
        told = [await failure(url.replace("mqtts:", scheme), tls) for scheme in ("mqtts:", "wss:")]
    if own is None and version is ssl.TLSVersion.TLSv1_2:
        words = "TLS: the broker refused the handshake; it may ask for a client certificate"
    assert [one.removesuffix(", without an answer to CONNECT") for one in told] == [words, words]


async def test_nothing_falls_back_to_plain_text(authority: Authority, certificate: Pair) -> None:
    """A broker where TLS fails is never asked without it: what it hears is a handshake, and nothing else."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))
        writer.close()

    plain = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with plain:
        for scheme in ("mqtts", "wss"):
            await failure(f"{scheme}://127.0.0.1:{plain.sockets[0].getsockname()[1]}", None)
    assert heard[:2] == b"\x16\x03"  # a record of TLS, of the kind handshake
    assert b"hunter2" not in heard


# -- files that change


async def test_renewed_files_are_used_at_the_next_connect(
    authority: Authority, certificate: Pair, tmp_path: Path
) -> None:
    """A certificate that was renewed is shown to the broker without a restart."""
    tls, own, key = files(authority, tmp_path, "first")
    seen: list[float | None] = []
    async with ScriptedBroker(tls=server(certificate, clients=authority.ca)) as broker:
        for name in ("first", "second"):
            link = await connect(Address.parse(broker.url), Options("me", tls=tls), Recorder())
            seen.append(peer_certificate_end(broker.conversations[0].transport))
            await link.close()
            await broker.until(lambda: broker.clients == 0)
            if name == "first":
                pair = authority.sign("second", days=9)
                renewed(own, pair[0])
                renewed(key, pair[1])
    assert None not in seen
    assert 6.9 < (seen[1] - seen[0]) / 86_400 < 7.1  # type: ignore[operator]
    assert complaint(tls) is None


def test_a_reconnect_reads_no_file_again(authority: Authority, tmp_path: Path) -> None:
    """While no file changes, the context is the same; a touched one is read again."""
    tls, own, _ = files(authority, tmp_path, "same")
    first = context(tls)
    assert context(tls) is first
    os.utime(own, ns=(1, 1))
    assert context(tls) is not first


def test_a_half_written_pair_does_no_harm(authority: Authority, tmp_path: Path) -> None:
    """Between a new certificate and its new key, what was read before stays in use, and what is wrong is told."""
    tls, own, key = files(authority, tmp_path, "before")
    before = context(tls)
    pair = authority.sign("after")
    renewed(own, pair[0])
    for _ in range(2):
        assert context(tls) is before
        told = complaint(tls)
        assert told is not None
        assert told.startswith("TLS: the key does not belong to the certificate: ")
        assert told.endswith("; what was read before stays in use")
    key.write_bytes(pair[1].read_bytes()[:60])
    assert context(tls) is before
    assert "no certificate and key (PEM) can be read" in str(complaint(tls))
    key.unlink()
    assert context(tls) is before
    assert "cannot be read: no such file" in str(complaint(tls))
    renewed(key, pair[1])
    after = context(tls)
    assert after is not before
    assert complaint(tls) is None


def test_old_files_that_come_back_are_no_reason_to_complain(authority: Authority, tmp_path: Path) -> None:
    """When the change is taken back, nothing is wrong any more."""
    tls, own, _ = files(authority, tmp_path, "back")
    before = context(tls)
    own.rename(own.with_suffix(".away"))
    assert context(tls) is before
    assert complaint(tls)
    own.with_suffix(".away").rename(own)
    assert context(tls) is before
    assert complaint(tls) is None


def test_a_first_pair_that_is_wrong_is_an_error(authority: Authority, tmp_path: Path) -> None:
    """There is nothing to stay with when nothing has worked before."""
    tls, _, key = files(authority, tmp_path, "never")
    renewed(key, authority.sign("other")[1])
    with pytest.raises(ConnectError, match="the key does not belong to the certificate"):
        context(tls)
    assert complaint(tls) is None
