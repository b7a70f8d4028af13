"""TLS: contexts from files that may be renewed at any time, and what goes wrong with them, in words."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple, TypeAlias

from gateway.mqtt.address import Tls
from gateway.mqtt.errors import ConnectError

# Codes of X509_verify_cert (openssl, x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_CA = {2, 18, 19, 20, 21}
_OTHER_NAME = {62, 64}

_REASONS = {
    "WRONG_VERSION_NUMBER": "no TLS is spoken there; is it the port for plain MQTT?",
    "HTTP_REQUEST": "no TLS is spoken there; is it the port for plain MQTT?",
    "UNSUPPORTED_PROTOCOL": "only a TLS older than minimum_version is spoken there",
    "TLSV1_ALERT_PROTOCOL_VERSION": "only another version of TLS is spoken there",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker asks for a client certificate; give certificate and key",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker refuses the client certificate: it does not know the CA that signed it",
    "TLSV1_ALERT_DECRYPT_ERROR": "the broker refuses the client certificate: the signature is not right",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker refuses the client certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the broker refuses the client certificate: it is of a kind for other uses",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the broker refuses the client certificate: it was revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the broker refuses the client certificate: it has expired; renew it",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the broker refuses the client certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "the broker refuses the client certificate: it gives no access",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the broker refused the handshake; it may ask for a client certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the broker does not know the name that it was asked for; see server_name",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the broker speaks none of the protocols in alpn",
}

# What a file was when it was read: path, and then its time, size and number, as far as it was there.
_Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]


class _Kept(NamedTuple):
    """A context that could be made, and what is said about files that have changed since and could not be used."""

    stamp: _Stamp
    context: ssl.SSLContext
    complaint: str | None


_kept: dict[Tls, _Kept] = {}


def context(tls: Tls) -> ssl.SSLContext:
    """Return a client's context: the broker's certificate is checked unless `insecure` is written.

    Files that have changed are read again. While they cannot be used, as between a new certificate and its new key,
    the context that was made before stays in use, and `complaint` says why. Raises ConnectError that names the file
    that is wrong, if none could be made before. Reads files, and so may block for as long as the disk does.
    """
    stamp = _stamp(tls)
    kept = _kept.get(tls)
    if kept is None or kept.stamp != stamp:
        try:
            kept = _Kept(stamp, _made(tls), None)
        except ConnectError as error:
            if kept is None:
                raise
            # The stamp stays the old one, so that the files are tried again at the next connect.
            kept = kept._replace(complaint=f"{error}; what was read before stays in use")
        _kept[tls] = kept
    elif kept.complaint:
        _kept[tls] = kept = kept._replace(complaint=None)  # the old files are back
    return kept.context


def complaint(tls: Tls) -> str | None:
    """Return why the files as they are now are not in use, for the owner of the link to say once; None: they are."""
    kept = _kept.get(tls)
    return kept.complaint if kept else None


def _stamp(tls: Tls) -> _Stamp:
    system = ssl.get_default_verify_paths()
    trusted = (tls.ca,) if tls.ca is not None else (system.cafile, system.capath)
    return tuple(_look(path) for path in (*trusted, tls.certificate, tls.key) if path is not None)


def _look(path: str) -> tuple[str, int, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return path, 0, 0, 0
    return path, found.st_mtime_ns, found.st_size, found.st_ino


def _made(tls: Tls) -> ssl.SSLContext:
    _readable("CA", tls.ca)
    _readable("certificate", tls.certificate)
    _readable("key", tls.key)
    try:
        if tls.ca is None:
            made = ssl.create_default_context()
        elif Path(tls.ca).is_dir():
            made = ssl.create_default_context(capath=tls.ca)
        else:
            made = ssl.create_default_context(cafile=tls.ca)
    except ssl.SSLError as error:
        raise _wrong(f"no certificate (PEM) can be read from the CA file {tls.ca}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
    if tls.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if tls.alpn:
        made.set_alpn_protocols(list(tls.alpn))
    if tls.certificate is not None:
        _load_own(made, tls, tls.certificate)
    return made


def _load_own(made: ssl.SSLContext, tls: Tls, certificate: str) -> None:
    asked = False

    def password() -> str:
        # Without this function, OpenSSL would ask for the password on the terminal.
        nonlocal asked
        asked = True
        return tls.key_password or ""

    files = f"{certificate}, {tls.key}" if tls.key else certificate
    try:
        made.load_cert_chain(certificate, tls.key, password)
    except (OSError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            words = "the key does not belong to the certificate"
        elif asked:
            words = "the key's password is wrong" if tls.key_password else "the key has a password, and none is given"
        else:
            words = "no certificate and key (PEM) can be read from the file"
        raise _wrong(f"{words}: {files}") from error


def _readable(what: str, path: str | None) -> None:
    if path is None:
        return
    try:
        if not Path(path).is_dir():
            with Path(path).open("rb"):
                pass
    except OSError as error:
        raise _wrong(f"the {what} file {path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _wrong(words: str) -> ConnectError:
    return ConnectError(f"TLS: {words}", kind="tls")


def failure_in_words(error: Exception, name: str = "") -> str:
    """Return why TLS failed; `name` is the one that the certificate should carry."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {_certificate_in_words(error, name)}"
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError) and reason:
        return f"TLS: {_REASONS.get(reason, reason.replace('_', ' ').lower())}"
    if isinstance(error, ValueError):
        return f"TLS: {name} cannot be the name in a certificate: {error}"
    if isinstance(error, ConnectionError):
        return "TLS: the broker closed the connection during the handshake; is TLS spoken on this port?"
    return f"TLS: {getattr(error, 'strerror', None) or error}"


def _certificate_in_words(error: ssl.SSLCertVerificationError, name: str) -> str:
    code = error.verify_code
    if code in _OTHER_NAME:
        return (
            f"the broker's certificate is not for the name {name}; if it is the right one, give its name: server_name"
        )
    if code == _EXPIRED:
        return "the broker's certificate has expired; it must be renewed there, unless the clock here is wrong"
    if code == _NOT_YET_VALID:
        return "the broker's certificate is not valid yet; is the clock right?"
    if code in _UNKNOWN_CA:
        return (
            f"the broker's certificate is not signed by a CA that is trusted here ({error.verify_message}); "
            "if it is the right one, give the file of its CA: ca"
        )
    return f"the broker's certificate is not accepted: {error.verify_message}"
