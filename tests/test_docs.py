"""What the pages show is what happens: each program in them is run, and prints what stands below it."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Timer
from typing import NamedTuple

import pytest

from gateway.config import load
from gateway.proof import Proof
from tests.mqtt.proxies import HttpProxy, Socks5Proxy
from tests.system.harness import Mosquitto, free_port, until

pytestmark = pytest.mark.system
DOCS = Path(__file__).resolve().parents[1] / "docs"
TUTORIAL = DOCS / "tutorial" / "python-client.md"
TLS = DOCS / "how-to" / "tls.md"
PROXY = DOCS / "how-to" / "connect-through-a-proxy.md"
METERED = DOCS / "how-to" / "metered-link.md"
PATIENCE = 30.0


class Block(NamedTuple):
    """One fenced block of a page."""

    section: str  # the heading above it
    language: str
    text: str

    @property
    def name(self) -> str:
        """The file that a program is put into: its first line says so."""
        return self.text.partition("\n")[0].removeprefix("# ")


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    return [
        Block(section.partition("\n")[0], *found)
        for section in page.read_text().split("\n## ")
        for found in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    ]


class PageBroker(Mosquitto):
    """The broker that a page has its reader start."""

    def __init__(self, book: Book, port: str, configuration: str = "") -> None:
        super().__init__(book.folder, f"broker-{port}")
        self.port = book.ports[port]
        self._shown = configuration or f"allow_anonymous true\nlistener {port} 127.0.0.1\n"
        self._book = book

    def _write_configuration(self) -> None:
        shown = re.sub(r"^(\w+file) ", rf"\1 {self._book.folder}/", self._book.here(self._shown), flags=re.MULTILINE)
        user = pwd.getpwuid(os.getuid()).pw_name  # else it would give up the right to read its own files
        (self._folder / "mosquitto.conf").write_text(f"user {user}\nlog_dest stderr\nlog_type all\n{shown}")


@dataclass
class Book:
    """A page whose programs are files in a folder. Each port that the page names is another one here."""

    page: Path
    folder: Path
    ports: dict[str, int]

    @classmethod
    def open(cls, page: Path, folder: Path) -> Book:
        """Lay a page out."""
        named = set(re.findall(r"(?:localhost:|listener |-p )(\d{4,5})\b", page.read_text()))
        book = cls(page, folder, {port: free_port() for port in named})
        book.lay_out()
        return book

    def lay_out(self) -> None:
        """Write each program into its file."""
        for block in blocks(self.page):
            if block.language == "python":
                (self.folder / block.name).write_text(self.here(block.text))

    def here(self, text: str) -> str:
        """Return text of the page as it is here."""
        return re.sub(r"\b\d{4,5}\b", lambda found: str(self.ports.get(found[0], found[0])), text)

    def as_shown(self, text: str) -> str:
        """Return what was printed here as the page would have it."""
        back = {str(port): shown for shown, port in self.ports.items()}
        return re.sub(r"\b\d{4,5}\b", lambda found: back.get(found[0], found[0]), text)

    def of(self, section: str, language: str) -> list[Block]:
        """Return the blocks of one section in one language."""
        return [block for block in blocks(self.page) if block.section == section and block.language == language]

    @contextmanager
    def start(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command in the folder; `python` is this one. It is killed at the end, or when it takes too long."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "error"}
        with subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
            deadline = Timer(PATIENCE, process.kill)
            deadline.start()
            try:
                yield process
            finally:
                deadline.cancel()
                deadline.join()
                process.kill()

    def run(self, *command: str) -> str:
        """Run a command to its end, and return what it has printed."""
        with self.start(*command) as process:
            printed, _ = process.communicate()
        assert process.returncode == 0, (command, process.returncode, printed)
        return self.as_shown(printed)

    def script(self, block: Block) -> None:
        """Run a block of shell."""
        self.run("bash", "-uc", self.here(block.text))


def followed(page: Path) -> list[tuple[Block, str | None]]:
    """Return each program with what the page says that it prints, if it does."""
    found = [*blocks(page), Block("", "", "")]
    return [
        (block, after.text if after.language == "text" else None)
        for block, after in pairwise(found)
        if block.language == "python"
    ]


SHOWN = {block.name: text for page in (TUTORIAL, TLS, PROXY) for block, text in followed(page)}
BY_THEMSELVES = ["publish.py", "outcomes.py", "subscribe.py", "callback.py", "blocking.py", "tls.py", "websocket.py"]
TOGETHER = ["failover.py", "device.py", "numbers_until_killed.py", "deliver_the_rest.py", "account.py"]
OTHER_PAGES = ["secured.py", "through_http.py", "through_socks.py"]


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Book, PageBroker]]:
    """The tutorial in a folder, and its first broker, with every listener."""
    book = Book.open(TUTORIAL, tmp_path_factory.mktemp("tutorial"))
    for block in book.of("TLS", "sh"):
        book.script(block)
    (configuration,) = book.of("TLS", "conf")
    with PageBroker(book, "1883", configuration.text) as broker:
        yield book, broker


def test_no_program_is_left_out() -> None:
    """Each program of these pages is run by a test of this file."""
    assert sorted(SHOWN) == sorted(BY_THEMSELVES + TOGETHER + OTHER_PAGES)


@pytest.mark.parametrize("name", BY_THEMSELVES)
def test_the_program_prints_what_the_page_shows(tutorial: tuple[Book, PageBroker], name: str) -> None:
    """A reader who copies a program gets the output that stands below it."""
    book, _ = tutorial
    assert book.run("python", name) == SHOWN[name]


def test_the_first_program_has_ten_lines() -> None:
    """Durable publish in ten lines: what its headline says, comment and blank lines apart."""
    (block,) = [block for block in blocks(TUTORIAL) if block.name == "publish.py"]
    lines = [line for line in block.text.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 10


def test_failover_and_back(tutorial: tuple[Book, PageBroker]) -> None:
    """The reader who stops the first broker and starts it again sees the lines of the page, one after the other."""
    book, first = tutorial
    lines = (SHOWN["failover.py"] or "").splitlines()
    with PageBroker(book, "1884"), book.start("python", "failover.py") as process:
        assert process.stdout is not None
        told = (book.as_shown(line).strip() for line in process.stdout)
        assert next(told) == lines[0]
        first.stop()
        try:
            assert [next(told), next(told)] == lines[1:3]
        finally:
            first.start()
        assert list(told) == lines[3:]
        assert process.wait() == 0


def test_birth_and_will(tutorial: tuple[Book, PageBroker]) -> None:
    """A watcher hears the birth of a client and, when that is killed, its will, as on the page."""
    book, broker = tutorial
    (shown,) = book.of("Last will and birth", "console")
    command, *lines = shown.text.removeprefix("$ ").splitlines()
    with book.start("bash", "-c", f"exec {book.here(command)}") as watcher:
        until(lambda: "greenhouse/status (QoS" in broker.log, PATIENCE, "the watcher has subscribed")
        with book.start("python", "device.py") as device:
            assert device.wait() == -signal.SIGKILL
        assert watcher.stdout is not None
        assert [watcher.stdout.readline().strip() for _ in lines] == lines


def test_nothing_is_missing_after_sigkill(tutorial: tuple[Book, PageBroker]) -> None:
    """The experiment of the page ends as the page says: whatever was stored has arrived, once."""
    book, broker = tutorial
    section = "What happens on SIGKILL"
    (listening,), (lives,) = book.of(section, "console"), book.of(section, "sh")
    with book.start("bash", "-c", f"exec {book.here(listening.text.removeprefix('$ '))}"):
        until(lambda: "numbers (QoS 2)" in broker.log, PATIENCE, "the subscriber is there")
        book.script(lives)
        stored = set((book.folder / "stored.txt").read_text().splitlines())
        received = book.folder / "received.txt"
        until(lambda: stored <= set(received.read_text().splitlines()), PATIENCE, "all has arrived")
    assert len({line.split()[0] for line in stored}) == 3
    assert len(stored) >= 150
    assert book.run("python", "account.py") == SHOWN["account.py"]


def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    """What the page on TLS has made by openssl lets a client in, and is what its config names."""
    book = Book.open(TLS, tmp_path)
    book.script(*book.of("Make an authority and two certificates", "sh"))
    (configuration,) = book.of("Make an authority and two certificates", "conf")
    with PageBroker(book, "8883", configuration.text):
        assert book.run("python", "secured.py") == SHOWN["secured.py"]
    (shown,) = book.of("Connect", "toml")
    (tmp_path / "gateway.toml").write_text(shown.text)
    assert [str(one.address) for one in load(tmp_path / "gateway.toml").uplinks["cloud"].endpoints]


async def test_through_proxies(tmp_path: Path) -> None:
    """Both programs of the page on proxies reach the broker, through the proxies that they name."""
    book = Book.open(PROXY, tmp_path)
    async with HttpProxy(book.ports["1883"]) as http, Socks5Proxy(book.ports["1883"]) as socks:
        http.credentials = ("me", "sesame")
        book.ports |= {"3128": http.port, "1080": socks.port}
        book.lay_out()
        with PageBroker(book, "1883"):
            for name in ("through_http.py", "through_socks.py"):
                assert await asyncio.to_thread(book.run, "python", name) == SHOWN[name]
        assert len(http.asked) == len(socks.asked) == 1
        assert socks.asked == [("localhost", book.ports["1883"])]
    (shown,) = book.of("The service", "toml")
    (tmp_path / "gateway.toml").write_text(shown.text)
    config = load(tmp_path / "gateway.toml", environ={"HOME": str(tmp_path), "PROXY_PASSWORD": "sesame"})
    assert config.uplinks["cloud"].endpoints[0].proxy == "http://proxy.example:3128"


def test_a_metered_link(tmp_path: Path) -> None:
    """The config of the page says what the page says of it, and a receiver finds readings in what it shows."""
    shown = {block.language: block.text for block in blocks(METERED)}
    (tmp_path / "gateway.toml").write_text(shown["toml"])
    uplink = load(tmp_path / "gateway.toml", environ={"HOME": str(tmp_path)}).uplinks["cloud"]
    assert (uplink.rate_limit, uplink.batch, uplink.compress, uplink.live_first) == ((2.0, 1000.0), 100, "gzip", True)
    proof = Proof()
    proof.take("sensors/gw/boiler", shown["json"].encode())
    assert (proof.received, proof.report().others) == (2, 0)
