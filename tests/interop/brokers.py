"""The brokers of others as child processes, each for as long as its `with`: mosquitto, RabbitMQ, amqtt."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

import pytest

from tests.interop.ways import Way
from tests.mqtt.certificates import Authority
from tests.system.harness import Mosquitto, free_port, until

MISSING = "RabbitMQ is missing. Type: sudo apt-get install --no-install-recommends rabbitmq-server"
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin insists on being root or rabbitmq


def listens(port: int) -> bool:
    """Return whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class EveryListener(Mosquitto):
    """A mosquitto with all listeners in one process, persistent, that can be stopped and started on the same ports."""

    def __init__(self, folder: Path, name: str = "mosquitto") -> None:
        """Prepare it in `folder`, with certificates of its own."""
        super().__init__(folder, name)
        authority = Authority(folder / "authority")
        self._pair = authority.sign("broker")
        mine, trust = authority.sign("client"), authority.ca
        self.ways = {
            "tcp": Way("mqtt", self.port),
            "tls": Way("mqtts", free_port(), ca=trust),
            "mutual": Way("mqtts", free_port(), ca=trust, certificate=mine),
            "ws": Way("ws", free_port(), "/mqtt"),
            "wss": Way("wss", free_port(), "/mqtt", ca=trust),
        }

    def start(self) -> None:
        """Start it, and return when every listener accepts connections."""
        super().start()
        until(lambda: all(listens(way.port) for way in self.ways.values()), 10, "every listener is there")

    def _write_configuration(self) -> None:
        super()._write_configuration()
        certificate, key = self._pair
        with (self._folder / "mosquitto.conf").open("a") as file:
            for way in list(self.ways.values())[1:]:
                file.write(f"listener {way.port} 127.0.0.1\n")
                if way.scheme.startswith("ws"):
                    file.write("protocol websockets\n")
                if way.ca is not None:
                    file.write(f"cafile {way.ca}\ncertfile {certificate}\nkeyfile {key}\n")
                if way.certificate is not None:
                    file.write("require_certificate true\n")


class Child:
    """A broker in a process group of its own, with a log; ended when the block is left."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`, which is made when the block is entered."""
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __exit__(self, *_: object) -> None:
        while self._processes:
            process = self._processes.pop()
            if process.stdin is not None:
                process.stdin.close()
            process.terminate()  # in order, so that what it has started itself is not left to nobody
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    @property
    def log(self) -> str:
        """Everything that it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def _spawn(self, *command: str, environment: dict[str, str] | None = None, stdin: int | IO[bytes]) -> None:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=stdin, stdout=log, stderr=log, process_group=0
            )
        self._processes.append(process)

    def _wait(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until it is `ready`, and fail with its log when it ends before or takes too long."""

        def is_ready() -> bool:
            assert all(process.poll() is None for process in self._processes), f"ended at its start:\n{self.log}"
            return ready()

        try:
            until(is_ready, seconds, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log}") from None


class RabbitMq(Child):
    """A RabbitMQ with MQTT and MQTT over WebSocket and nothing else, as root or as anybody.

    It shares nothing with one that may be installed as a service: its own files, home, cookie, node name and epmd. It
    takes ten seconds to start, half of which it waits for a cluster that there is not.
    """

    USERNAME, PASSWORD = "gateway", "sesame"

    def __init__(self, folder: Path, program: Path = RABBITMQ) -> None:
        """Prepare it in `folder`."""
        super().__init__(folder)
        self._program = program
        login = {"username": self.USERNAME, "password": self.PASSWORD}
        self.ways = {"tcp": Way("mqtt", free_port(), **login), "ws": Way("ws", free_port(), "/ws", **login)}

    def __enter__(self) -> Self:
        epmd = shutil.which("epmd")
        if epmd is None or not self._program.exists():
            pytest.fail(MISSING, pytrace=False)
        self.folder.mkdir()
        (self.folder / "enabled_plugins").write_text("[rabbitmq_mqtt,rabbitmq_web_mqtt].\n")
        (self.folder / "rabbitmq.conf").write_text(self._configuration())
        # It finds its own name here and asks nobody else, not even a name server.
        (self.folder / "inetrc").write_text('{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file]}.\n')
        names = free_port()
        environment = self._environment(names)
        try:
            self._spawn(
                epmd, "-port", str(names), "-address", "127.0.0.1", environment=environment, stdin=subprocess.DEVNULL
            )
            self._wait(lambda: listens(names), 10, "epmd is there")
            self._spawn(str(self._program), environment=environment, stdin=subprocess.DEVNULL)
            self._wait(lambda: "Server startup complete" in self.log, 90, "RabbitMQ is there")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _configuration(self) -> str:
        lines = {
            "listeners.tcp": "none",  # no AMQP
            "mqtt.listeners.tcp.1": f"127.0.0.1:{self.ways['tcp'].port}",
            "mqtt.allow_anonymous": "false",
            "web_mqtt.tcp.ip": "127.0.0.1",
            "web_mqtt.tcp.port": self.ways["ws"].port,
            "default_user": self.USERNAME,
            "default_pass": self.PASSWORD,
            "disk_free_limit.absolute": "1MB",  # below it, it stops reading what is published
        }
        return "".join(f"{key} = {value}\n" for key, value in lines.items())

    def _environment(self, names: int) -> dict[str, str]:
        """Return all that it is told by environment; `names` is the port of its epmd."""
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_INETRC": str(self.folder / "inetrc"),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"gateway-{names}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }


class Amqtt(Child):
    """The broker of the demo: amqtt, which speaks MQTT 3.1.1 only and never answers a CONNECT of MQTT 5."""

    def __init__(self, folder: Path) -> None:
        """Prepare it in `folder`."""
        super().__init__(folder)
        self.ways = {"tcp": Way("mqtt", free_port())}

    def __enter__(self) -> Self:
        self.folder.mkdir()
        try:
            command = (sys.executable, "-m", "gateway.cli.demo.broker", str(self.ways["tcp"].port))
            self._spawn(*command, stdin=subprocess.PIPE)
            self._wait(lambda: '"ready"' in self.log, 20, "amqtt is there")
        except BaseException:
            self.__exit__()
            raise
        return self
