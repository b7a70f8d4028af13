"""A real mosquitto that can be stopped, killed, frozen and brought back on the same port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import pytest

from tests.ports import free_port
from tests.system.harness.deadline import until

MISSING = "mosquitto is missing. Type: sudo apt-get install mosquitto mosquitto-clients"


def _find(command: str) -> str:
    found = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.fail(MISSING if command.startswith("mosquitto") else f"{command} is missing", pytrace=False)
    return found


@dataclass(frozen=True)
class Certificates:
    """A certificate for 127.0.0.1 that its own key has signed, so that nobody trusts it unasked."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make a new pair of files in `folder`."""
        made = cls(folder / "broker.crt", folder / "broker.key")
        how = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        whom = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        where = ["-keyout", str(made.key), "-out", str(made.certificate)]
        subprocess.run([_find("openssl"), *how, *whom, *where], check=True, capture_output=True, timeout=20)
        return made


class Mosquitto:
    """One mosquitto on a port of its own.

    A killed mosquitto loses what it holds in memory. Two properties of it make the count exact all the same, and
    `test_harness.py` proves both: a connected QoS 0 subscriber is written to before the publisher gets its PUBACK, and
    what is written arrives; and a restored session (persistent, saved after subscribing, queueing QoS 0) gets what is
    published before its subscriber is back. `kill` therefore first waits until every subscriber is connected, and so
    close behind that the kernel, and not the broker, holds what it has not read yet.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "broker",
        *,
        users: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"{'mqtts' if certificates else 'mqtt'}://127.0.0.1:{self.port}"
        # Set by each subscriber: returns whether it is connected here.
        self.watchers: list[Subscription] = []
        self._folder = folder / name
        self._users = users
        self._certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._write_configuration()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    @property
    def log(self) -> str:
        """Everything that it has said so far."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        assert self._process is None, f"{self.name} is running"
        self._frozen = False
        with (self._folder / "log").open("ab") as log:
            command = [_find("mosquitto"), "-c", str(self._folder / "mosquitto.conf")]
            process = self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def accepts() -> bool:
            assert process.poll() is None, f"{self.name} ended at its start:\n{self.log}"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                return False
            return True

        until(accepts, 10, f"{self.name} accepts connections")

    def stop(self) -> None:
        """Stop it in order: it saves its sessions, and what they are still to get."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it, as soon as every subscriber is connected and keeps up."""
        until(lambda: all(watcher.keeps_up for watcher in self.watchers), 20, f"subscribers of {self.name} keep up")
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP it: connections stay up, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def save(self) -> None:
        """Have it write its sessions to disk, so that they are there after a SIGKILL too."""
        assert self._process is not None
        saved = self._folder / "mosquitto.db"
        asked = time.time_ns()
        self._process.send_signal(signal.SIGUSR1)
        # The clock of the file system ticks more coarsely than ours.
        until(
            lambda: saved.exists() and saved.stat().st_size and saved.stat().st_mtime_ns > asked - 20_000_000,
            10,
            f"{self.name} saves its sessions",
        )

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} is not running"
        if self._frozen and how is not signal.SIGKILL:
            self.thaw()
        self._process.send_signal(how)
        self._process.wait(10)
        self._process = None
        # Only now has a subscriber seen all that was on its way, and is its `connected` not of the run before.
        until(lambda: not any(watcher.connected for watcher in self.watchers), 20, f"subscribers saw {self.name} end")

    def _write_configuration(self) -> None:
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"user {pwd.getpwuid(os.getuid()).pw_name}",
            "persistence true",
            f"persistence_location {self._folder}/",
            "autosave_interval 0",
            "queue_qos0_messages true",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "log_dest stderr",
            "log_timestamp_format %H:%M:%S",
        ]
        if self._users is None:
            lines.append("allow_anonymous true")
        else:
            passwords = self._folder / "passwords"
            passwords.write_text("".join(f"{user}:{password}\n" for user, password in self._users.items()))
            passwords.chmod(0o600)
            subprocess.run([_find("mosquitto_passwd"), "-U", str(passwords)], check=True, timeout=20)
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        if self._certificates is not None:
            lines += [f"certfile {self._certificates.certificate}", f"keyfile {self._certificates.key}"]
        (self._folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")


class Subscription(Protocol):
    """One subscriber's session at one broker, as the broker needs to know it."""

    @property
    def connected(self) -> bool:
        """Whether it is connected now."""
        ...

    @property
    def keeps_up(self) -> bool:
        """Whether it is connected, and has read nearly all that was written to it."""
        ...
