"""What systemd wants to hear: readiness, status, watchdog (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends datagrams to $NOTIFY_SOCKET; does nothing where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading "@" means the abstract namespace, which the kernel writes as a NUL byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if mine else 0.0
        """Seconds within which systemd wants a sign of life; 0 if it does not."""

    @property
    def listening(self) -> bool:
        """Tell whether anybody is there to be told."""
        return self._socket is not None

    def send(self, **variables: str) -> None:
        """Send `NAME=value` for each argument. A supervisor that does not listen must not harm the service."""
        if self._socket is None:
            return
        message = "\n".join(f"{name}={value}" for name, value in variables.items())
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
