"""Until when certificates are valid, so that it can be said before one ends."""

from __future__ import annotations

import asyncio
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

from gateway.mqtt.address import Tls
from gateway.mqtt.tls import complaint

DAY = 86_400.0
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s.+?-----END CERTIFICATE-----", re.DOTALL)

# Tags of X.690 that stand in the way, or are looked for.
_SEQUENCE, _INTEGER, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18


def certificate_notices(tls: Tls | None, transport: asyncio.BaseTransport | None, now: float) -> list[str]:
    """Return what the owner of a link should say about its certificates, best once for each different sentence.

    That is: renewed files that cannot be used, and certificates that end within 30 days. `now` is in seconds since
    1970. Reads the file of our own certificate.
    """
    found = []
    if tls is not None:
        wrong, end = complaint(tls), own_certificate_end(tls)
        if wrong:
            found.append(wrong)
        if end is not None and (words := expires_soon(end, now)):
            found.append(f"TLS: the client certificate in {tls.certificate} {words}")
    end = None if transport is None else peer_certificate_end(transport)
    if end is not None and (words := expires_soon(end, now)):
        found.append(f"TLS: the broker's certificate {words}")
    return found


def expires_soon(not_after: float, now: float, days: float = 30) -> str | None:
    """Return in words when a certificate ends, or that it has, if that is within so many days; else None.

    `not_after` and `now` are seconds since 1970.
    """
    left = (not_after - now) / DAY
    if left > days:
        return None
    date = datetime.fromtimestamp(not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if left <= 0:
        return f"has ended, on {date}"
    return f"ends in {_counted(int(left))}, on {date}" if left >= 1 else f"ends within a day, on {date}"


def _counted(days: int) -> str:
    return f"{days} day{'' if days == 1 else 's'}"


def peer_certificate_end(transport: asyncio.BaseTransport) -> float | None:
    """Return when the broker's certificate ends, in seconds since 1970; None without TLS, or if it cannot be read."""
    link = transport.get_extra_info("ssl_object")
    certificate = None if link is None else link.getpeercert(binary_form=True)
    return None if certificate is None else _end_or_none(certificate)


def own_certificate_end(tls: Tls) -> float | None:
    """Return when the first of the client's own certificates ends, in seconds since 1970; None if there is none.

    Reads the file, and so may block for as long as the disk does.
    """
    if tls.certificate is None:
        return None
    try:
        blocks = _PEM.findall(Path(tls.certificate).read_bytes())
        ends = [certificate_end(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))) for block in blocks]
    except (OSError, ValueError):
        return None
    return min(ends, default=None)


def _end_or_none(certificate: bytes) -> float | None:
    try:
        return certificate_end(certificate)
    except ValueError:
        return None


def certificate_end(certificate: bytes) -> float:
    """Return notAfter of a certificate in DER (RFC 5280, section 4.1), in seconds since 1970.

    The standard library reads only certificates that it has just verified. Raises ValueError.
    """
    rest, _ = _inside(certificate, _SEQUENCE)
    rest, _ = _inside(rest, _SEQUENCE)  # tbsCertificate
    if rest[:1] == bytes((_VERSION,)):
        _, rest = _inside(rest, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serialNumber, signature, issuer
        _, rest = _inside(rest, tag)
    validity, _ = _inside(rest, _SEQUENCE)
    _, not_after = _inside(validity, validity[0] if validity else 0)  # over notBefore
    tag = not_after[0] if not_after else 0
    text = _inside(not_after, tag)[0].decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280, section 4.1.2.5.1: two digits mean 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a certificate")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return what is inside of the element at the beginning, which must have this tag, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("not a certificate")
    length, start = data[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("not a certificate: it is cut off")
    return data[start : start + length], data[start + length :]
