"""TLS: contexts from files, and what goes wrong with them, in words."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.mqtt.address import Tls
from gateway.mqtt.errors import ConnectError

# Codes of X509_verify_cert (openssl, x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_CA = {2, 18, 19, 20, 21}
_OTHER_NAME = {62, 64}

_REASONS = {
    "WRONG_VERSION_NUMBER": "no TLS is spoken there; is it the port for plain MQTT?",
    "HTTP_REQUEST": "no TLS is spoken there; is it the port for plain MQTT?",
    "UNSUPPORTED_PROTOCOL": "only a TLS older than 1.2 is spoken there",
    "TLSV1_ALERT_PROTOCOL_VERSION": "only another version of TLS is spoken there",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker asks for a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know the CA of the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker does not take the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client certificate has expired",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the broker refused the handshake; it may ask for a client certificate",
}


def context(tls: Tls) -> ssl.SSLContext:
    """Return a client's context: TLS 1.2 or newer, the broker's certificate checked.

    Reads files. Raises ConnectError that names the one that is wrong.
    """
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
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
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
        return f"the broker's certificate is not for the name {name}"
    if code == _EXPIRED:
        return "the broker's certificate has expired"
    if code == _NOT_YET_VALID:
        return "the broker's certificate is not valid yet; is the clock right?"
    if code in _UNKNOWN_CA:
        return f"the broker's certificate is not signed by a CA that is trusted here ({error.verify_message})"
    return f"the broker's certificate is not accepted: {error.verify_message}"
