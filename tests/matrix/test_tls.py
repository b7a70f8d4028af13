"""TLS with a real broker: who it is, who we are, and files that are renewed while everything runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from gateway.mqtt import Address, ConnectError, Connection, Options, Tls, connect
from gateway.mqtt.tls import complaint
from gateway.mqtt.validity import certificate_notices
from tests.mqtt.certificates import Authority, renewed
from tests.mqtt.conftest import authority, certificate, stranger
from tests.mqtt.mosquitto import Mosquitto
from tests.mqtt.recorder import Recorder

__all__ = ["authority", "certificate", "stranger"]
pytestmark = pytest.mark.system
Pair = tuple[Path, Path]


def secured(folder: Path, authority: Authority, pair: Pair, *lines: str) -> Mosquitto:
    """Return a mosquitto with TLS."""
    return Mosquitto(folder, f"cafile {authority.ca}", f"certfile {pair[0]}", f"keyfile {pair[1]}", *lines)


async def dial(
    broker: Mosquitto, tls: Tls | None, host: str = "127.0.0.1", recorder: Recorder | None = None
) -> Connection:
    """Open a link over TLS."""
    options = Options("me", username="me", password=b"hunter2", tls=tls)
    return await connect(Address("mqtts", host, broker.port), options, recorder or Recorder())


async def failure(broker: Mosquitto, tls: Tls | None, host: str = "127.0.0.1") -> str:
    """Return why no link could be made, which must be TLS's fault."""
    with pytest.raises(ConnectError) as caught:
        await dial(broker, tls, host)
    assert caught.value.kind == "tls"
    return str(caught.value)


async def test_a_broker_that_is_not_who_it_should_be(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    """Wrong CA, wrong name and an expired certificate are refused before CONNECT is sent, each in its words."""
    trust = Tls(ca=str(authority.ca))
    for name, pair, tls, words in (
        ("ca", authority.sign("right"), Tls(ca=str(stranger.ca)), "not signed by a CA that is trusted here"),
        ("system", authority.sign("right"), None, "not signed by a CA that is trusted here"),
        ("name", authority.sign("elsewhere", "DNS:elsewhere.example"), trust, "not for the name 127.0.0.1"),
        ("expired", authority.sign("old", days=-1), trust, "the broker's certificate has expired"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with secured(folder, authority, pair) as broker:
            assert words in await failure(broker, tls)
            assert "New client connected" not in broker.log


async def test_a_client_that_is_not_let_in(
    tmp_path: Path, authority: Authority, stranger: Authority, certificate: Pair
) -> None:
    """In TLS 1.3 a refusal comes after the handshake, and is told as what it is all the same."""
    trust = str(authority.ca)
    with secured(tmp_path, authority, certificate, "require_certificate true") as broker:
        own, key = map(str, authority.sign("locked", password="sesame"))
        link = await dial(broker, Tls(trust, own, key, "sesame"))
        assert link.transport is not None
        assert link.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        await link.close()
        own, key = map(str, stranger.sign("foreign"))
        assert "it does not know the CA that signed it" in await failure(broker, Tls(trust, own, key))
        own, key = map(str, authority.sign("late", days=-1))
        assert "the broker refuses the client certificate: it has expired" in await failure(
            broker, Tls(trust, own, key)
        )
        assert "client certificate" in await failure(broker, Tls(trust))


async def test_renewal_without_a_restart(tmp_path: Path, authority: Authority, certificate: Pair) -> None:
    """The next connect shows the renewed certificate, and a pair that is half written keeps the one before."""
    own, key = tmp_path / "own.crt", tmp_path / "own.key"
    for source, target in zip(authority.sign("first"), (own, key), strict=True):
        shutil.copy(source, target)
    tls = Tls(str(authority.ca), str(own), str(key))
    with secured(
        tmp_path, authority, certificate, "require_certificate true", "use_identity_as_username true"
    ) as broker:

        async def shown() -> str:
            """Return whose certificate the broker was shown."""
            await (await dial(broker, tls)).close()
            return broker.log.rsplit("u'", 1)[1].partition("'")[0]

        assert await shown() == "first"
        pair = authority.sign("second", days=10)
        renewed(own, pair[0])
        assert await shown() == "first"
        assert "the key does not belong to the certificate" in str(complaint(tls))
        renewed(key, pair[1])
        assert await shown() == "second"
        assert complaint(tls) is None


async def test_what_is_said_about_certificates(tmp_path: Path, authority: Authority, certificate: Pair) -> None:
    """Both certificates are told 30 days before they end, and nothing is said before, nor without TLS."""
    own, key = map(str, authority.sign("hundred", days=100))
    tls = Tls(str(authority.ca), own, key)
    now = time.time()
    with secured(tmp_path, authority, certificate, "require_certificate true") as broker:
        link = await dial(broker, tls)
        (soon,) = certificate_notices(tls, link.transport, now)
        assert soon.startswith("TLS: the broker's certificate ends in 1 day, on ")
        later = certificate_notices(tls, link.transport, now + 80 * 86_400)
        assert [words.partition(", on ")[0] for words in later] == [
            f"TLS: the client certificate in {own} ends in 19 days",
            "TLS: the broker's certificate has ended",
        ]
        assert certificate_notices(tls, link.transport, now - 40 * 86_400) == []
        assert certificate_notices(None, None, now) == []
        await link.close()


async def test_insecure_is_only_what_is_written(tmp_path: Path, authority: Authority, certificate: Pair) -> None:
    """Any certificate is taken where `insecure` is written, and nowhere else."""
    with secured(tmp_path, authority, certificate) as broker:
        await (await dial(broker, Tls(insecure=True))).close()
        assert "not signed by a CA" in await failure(broker, Tls())
