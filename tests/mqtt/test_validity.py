"""Until when certificates are valid is known, and told in time."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt import Address, Options, Tls, connect
from gateway.mqtt.validity import certificate_end, expires_soon, own_certificate_end, peer_certificate_end
from tests.mqtt.certificates import Authority, files, openssl, server
from tests.mqtt.recorder import Recorder
from tests.scripted_broker import ScriptedBroker

Pair = tuple[Path, Path]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (31.0, None),
        (30.0, "ends in 30 days, on 2026-03-01 00:00 UTC"),
        (1.5, "ends in 1 day, on 2026-03-01 00:00 UTC"),
        (0.5, "ends within a day, on 2026-03-01 00:00 UTC"),
        (0.0, "has ended, on 2026-03-01 00:00 UTC"),
        (-400.0, "has ended, on 2026-03-01 00:00 UTC"),
    ],
)
def test_an_end_is_told_thirty_days_ahead(left: float, words: str | None) -> None:
    """What ends within 30 days is told with its date, and nothing before."""
    end = 1_772_323_200.0
    assert expires_soon(end, end - left * 86_400) == words
    assert (expires_soon(end, end - left * 86_400, days=3) is None) == (left > 3)


async def test_the_ends_of_both_certificates_are_known(authority: Authority, certificate: Pair, tmp_path: Path) -> None:
    """The broker's end is known on every link with TLS, also an insecure one, and our own from its file."""
    tls, _, _ = files(authority, tmp_path, "ten", days=10)
    end = own_certificate_end(tls)
    assert end is not None
    assert abs(end - time.time() - 10 * 86_400) < 3600
    assert own_certificate_end(Tls()) is None
    assert own_certificate_end(Tls(certificate=str(tmp_path / "missing"))) is None
    assert own_certificate_end(Tls(certificate=tls.key)) is None
    async with ScriptedBroker(tls=server(certificate)) as broker, ScriptedBroker() as plain:
        for one in (Tls(ca=str(authority.ca)), Tls(insecure=True)):
            link = await connect(Address.parse(broker.url), Options("me", tls=one), Recorder())
            assert link.transport is not None
            end = peer_certificate_end(link.transport)
            assert end is not None
            assert abs(end - time.time() - 2 * 86_400) < 3600
            await link.close()
        link = await connect(Address.parse(plain.url), Options("me"), Recorder())
        assert link.transport is not None
        assert peer_certificate_end(link.transport) is None
        await link.close()


def test_the_end_is_read_as_openssl_reads_it(authority: Authority, tmp_path: Path) -> None:
    """Years before and after 2050 are written in two ways (RFC 5280, section 4.1.2.5), and both are read."""
    for days in (1, 365 * 10, 365 * 60):
        own, _ = authority.sign(f"years-{days}", days=days)
        end = certificate_end(ssl.PEM_cert_to_DER_cert(own.read_text()[own.read_text().index("-----BEGIN") :]))
        told = openssl("x509", "-noout", "-enddate", "-in", own).removeprefix("notAfter=").strip()
        assert end == ssl.cert_time_to_seconds(told)


@pytest.mark.parametrize(
    ("tag", "text", "year"),
    [
        (0x17, "491231235959Z", 2049),
        (0x17, "500101000000Z", 1950),
        (0x17, "991231235959Z", 1999),
        (0x18, "20500101000000Z", 2050),
    ],
)
@pytest.mark.parametrize("version", [b"", b"\xa0\x03\x02\x01\x02"])
def test_the_century_of_an_end(tag: int, text: str, year: int, version: bytes) -> None:
    """Two digits mean 1950 to 2049, four mean themselves; a certificate of version 1 says no version."""

    def element(tag: int, inside: bytes) -> bytes:
        return bytes((tag, len(inside))) + inside

    validity = element(0x30, element(0x17, b"400101000000Z") + element(tag, text.encode()))
    names = element(0x02, b"\x01") + element(0x30, b"") * 2
    end = certificate_end(element(0x30, element(0x30, version + names + validity)))
    assert datetime.fromtimestamp(end, UTC).year == year


@given(st.binary(max_size=200))
def test_nonsense_has_no_end(data: bytes) -> None:
    """Bytes that are no certificate are told as that, whatever they are."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ, the rule is one
        certificate_end(data)


def test_a_certificate_that_is_cut_off_has_no_end(certificate: Pair) -> None:
    """Each beginning of a certificate that lacks its end of validity is an error, and none hangs or crashes."""
    text = certificate[0].read_text()
    whole = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :])
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="not a certificate"):
            certificate_end(whole[:length])
