"""A small public key infrastructure, made by the openssl command."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from gateway.mqtt import Tls

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def openssl(*arguments: str | Path) -> str:
    """Run openssl, and return what it prints."""
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=20, text=True).stdout


class Authority:
    """A CA in a folder, which signs certificates for brokers and clients."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.crt"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        whom = ("-subj", f"/CN={folder.name}")
        openssl(
            "req", "-x509", *CURVE, "-nodes", "-days", 2, *whom, *usage, "-keyout", folder / "ca.key", "-out", self.ca
        )

    def sign(self, name: str, names: str = "IP:127.0.0.1", days: int = 2, password: str = "") -> tuple[Path, Path]:
        """Make a certificate for these subject alternative names, and return the files of certificate and key."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        certificate, extensions = self.folder / f"{name}.crt", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
        locked = ("-passout", f"pass:{password}") if password else ("-nodes",)
        openssl("req", *CURVE, *locked, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signer = ("-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        openssl("x509", "-req", "-in", request, *signer, "-days", days, "-extfile", extensions, "-out", certificate)
        return certificate, key


def server(certificate: tuple[Path, Path], clients: Path | None = None) -> ssl.SSLContext:
    """Return a broker's context; with `clients`, only clients that this CA has signed get in."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*certificate)
    if clients is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(clients)
    return made


def files(authority: Authority, folder: Path, name: str, days: int = 2) -> tuple[Tls, Path, Path]:
    """Return copies of a client's certificate and key in a folder, and what names them."""
    certificate, key = folder / "own.crt", folder / "own.key"
    pair = authority.sign(name, days=days)
    shutil.copy(pair[0], certificate)
    shutil.copy(pair[1], key)
    return Tls(ca=str(authority.ca), certificate=str(certificate), key=str(key)), certificate, key


def renewed(path: Path, other: Path) -> None:
    """Put the content of another file into this one, as whoever renews a certificate does: whole, and in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(other.read_bytes())
    fresh.replace(path)


@contextmanager
def alerting(context: ssl.SSLContext) -> Iterator[str]:
    """Run a server that shakes hands as OpenSSL does, and return its URL: asyncio's own keeps its alerts to itself.

    It reads until the client goes, and answers nothing.
    """

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            connection.settimeout(5)
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as link:
                while link.recv(4096):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"mqtts://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
