"""The real broker, with a log that a test can read: plain, with TLS, on a unix socket, with users."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.ports import free_port

MISSING = "mosquitto is missing. Type: sudo apt-get install mosquitto mosquitto-clients"


class Mosquitto:
    """One mosquitto with one listener, which `with` starts and stops. Extra lines go into its configuration."""

    def __init__(self, folder: Path, *lines: str, unix: bool = False) -> None:
        self.folder = folder
        self.unix = folder / "mosquitto.sock" if unix else None
        self.port = free_port()
        listener = f"listener 0 {self.unix}" if self.unix else f"listener {self.port} 127.0.0.1"
        user = f"user {pwd.getpwuid(os.getuid()).pw_name}"
        anonymous = () if any(line.startswith("allow_anonymous") for line in lines) else ("allow_anonymous true",)
        configuration = "\n".join([listener, user, *anonymous, *lines, "log_type all", "log_dest stderr"])
        (folder / "mosquitto.conf").write_text(configuration + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where it listens, without TLS."""
        return f"unix://{self.unix}" if self.unix else f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Return what it has logged so far."""
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        command = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if command is None:
            pytest.fail(MISSING, pytrace=False)
        with (self.folder / "mosquitto.log").open("wb") as log:
            arguments = [command, "-c", str(self.folder / "mosquitto.conf")]
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(5)

    def freeze(self) -> None:
        """SIGSTOP it: connections stay up, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def _wait(self) -> None:
        assert self._process is not None
        family, target = (socket.AF_UNIX, str(self.unix)) if self.unix else (socket.AF_INET, ("127.0.0.1", self.port))
        deadline = time.monotonic() + 10
        while True:
            with socket.socket(family) as probe:
                if probe.connect_ex(target) == 0:
                    return
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)  # another process; it tells nobody when it listens
