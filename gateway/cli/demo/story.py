"""`sensor-gateway demo`: the main job, without hardware and without a broker of your own.

Two simulated serial devices write to pseudo-terminals, the real service reads them by `config/demo.toml`, and two
embedded brokers take what it publishes. The demo kills the brokers and brings them back, shows what happens, and ends
with the account. It exits 0 only if every line that a device wrote has arrived with its values, exactly as many were
taken in as were delivered, nothing waits, and no seq is missing.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from gateway.cli.demo.account import Account, draw_up
from gateway.cli.demo.devices import SerialDevice, boiler_line, scale_line
from gateway.cli.demo.rig import DemoError, Service
from gateway.cli.demo.stage import Scene, Stage
from gateway.cli.demo.view import HEIGHT, WIDTH, Lines, Picture, View, show_account

MISSING = """The demo needs an MQTT broker to play with, and the package amqtt is not installed.
In a clone, type: make demo
Otherwise, type:  pip install 'sensor-gateway[demo]'"""

FAR = 30.0  # seconds after which the demo gives up waiting for something that takes one or two


class Plan:
    """The demo's config, with its folder and its ports moved to where there is room."""

    def __init__(self, folder: Path) -> None:
        """Read config/demo.toml and write a copy of it that lives in `folder`. Raises DemoError if there is none."""
        here = Path(__file__).resolve()
        installed = here.with_name("demo.toml")  # in a wheel; in a clone it stands with the other configs
        source = installed if installed.exists() else here.parents[3] / "config" / "demo.toml"
        if not source.is_file():
            raise DemoError(f"{source} is missing: run the demo in a clone of the project")
        text = source.read_text("utf-8")
        config = tomllib.loads(text)
        text = text.replace(str(Path(config["outbox"]["path"]).parent), str(folder))
        self.moved: list[str] = []  # what had to be moved, in words
        self.ports: list[int] = []
        for url in config["uplinks"]["cloud"]["brokers"]:
            wanted = urlsplit(url).port or 0
            port = free_port(wanted)
            if port != wanted:
                self.moved.append(f"port {wanted} is in use on this machine, so a broker listens on {port} instead")
                text = text.replace(url, f"mqtt://127.0.0.1:{port}")
            self.ports.append(port)
        self.base = f"{config['gateway'].get('base', 'sensors')}/{config['gateway']['id']}"
        self.folder = folder
        self.file = folder / "demo.toml"
        self.file.write_text(text, "utf-8")


def free_port(wanted: int) -> int:
    """Return `wanted` if something can listen there on 127.0.0.1, else a port that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoError("no port is free on 127.0.0.1")


class Story:
    """The story that the demo tells: six scenes, each of which changes something and waits for what must follow."""

    def __init__(self, stage: Stage, view: View, service: Service, pace: float) -> None:
        """Tell it on `stage`, show it on `view`. `pace` stretches or shortens the time to look at each scene."""
        self._stage = stage
        self._view = view
        self._service = service
        self._pace = pace
        self._stop = asyncio.Event()

    async def tell(self) -> Account:
        """Tell the story from the first scene to the account. Raises DemoError when it takes another turn."""
        stage = self._stage
        await self._begin()
        sending = [asyncio.create_task(device.run(self._stop)) for device in stage.devices]
        try:
            await self._all_is_well()
            await self._failover()
            await self._both_gone()
            await self._drain()
            await self._failback()
        finally:
            self._stop.set()
            await asyncio.gather(*sending)
        return await self._end()

    async def _begin(self) -> None:
        """Start everything, and wait until the gateway has opened both ports."""
        stage = self._stage
        try:
            async with asyncio.TaskGroup() as starting:
                for broker in stage.brokers:
                    starting.create_task(broker.start())
                starting.create_task(self._service.start())
        except* DemoError as group:
            raise group.exceptions[0] from None
        await self._until(lambda: self._service.ready, "the gateway is ready")
        await self._until(
            lambda: all(stage.figures.devices.get(d.name, {}).get("state") == "online" for d in stage.devices),
            "the gateway has opened both serial ports",
        )
        self._say("two brokers, two serial devices and the gateway are up")

    async def _all_is_well(self) -> None:
        self._scene(
            1,
            "All is well",
            "Each reading is sent the moment it is taken in. What the broker acknowledges within a second never "
            "touches the disk.",
            "good",
        )
        await self._until(lambda: self._stage.active is self._stage.brokers[0], "readings arrive at the primary")
        self._say("readings arrive at the primary broker")
        await self._look(5)

    async def _failover(self) -> None:
        primary, secondary = self._stage.brokers
        self._scene(
            2,
            "The primary broker is killed",
            "Without a farewell, as in a power cut. What it had not acknowledged is sent again, to the secondary.",
            "bad",
        )
        before = self._stage.elapsed
        await primary.kill()
        self._say("the primary broker is killed")
        await self._until(lambda: self._stage.active is secondary, "the gateway fails over to the secondary")
        self._say(f"failover: readings arrive at the secondary, {self._stage.elapsed - before:.1f} s later")
        self._mood("good")
        await self._look(4)

    async def _both_gone(self) -> None:
        self._scene(
            3,
            "Both brokers are gone",
            "Nobody answers, and the devices never notice. The outbox keeps every reading: one transaction a second, "
            "on the disk.",
            "bad",
        )
        await self._stage.brokers[1].kill()
        self._say("the secondary broker is killed as well")
        await self._look(9)
        self._say(f"{self._stage.waiting} readings wait in the outbox, in {self._stage.figures.commits} commits")

    async def _drain(self) -> None:
        stage = self._stage
        secondary = stage.brokers[1]
        self._scene(
            4,
            "The secondary broker returns",
            "The outbox drains. Each reading arrives with the time at which it was measured, however long it waited.",
            "busy",
        )
        backlog = stage.waiting
        await secondary.start()
        self._say("the secondary broker is back")
        before = secondary.arrived
        await self._until(lambda: secondary.arrived > before, "the gateway finds the broker again")
        since = stage.elapsed
        await self._until(lambda: stage.waiting < max(20, backlog // 20), "the outbox drains")
        self._say(f"drained: {secondary.arrived - before} readings arrived in {max(0.1, stage.elapsed - since):.1f} s")
        self._mood("good")
        await self._look(4)

    async def _failback(self) -> None:
        primary = self._stage.brokers[0]
        self._scene(
            5,
            "The primary broker returns",
            "The gateway keeps the secondary until the primary has proven itself. Then it goes back, without a gap.",
            "busy",
        )
        await primary.start()
        self._say("the primary broker is back")
        before = self._stage.elapsed
        await self._until(lambda: self._stage.active is primary, "the gateway goes back to the primary")
        self._say(f"failback: readings arrive at the primary again, {self._stage.elapsed - before:.1f} s later")
        self._mood("good")
        await self._look(3)

    async def _end(self) -> Account:
        """Let the last reading arrive, stop the service, and draw up the account."""
        stage = self._stage
        self._scene(
            6, "The account", "The devices fall silent, the last readings arrive, the gateway is stopped.", "busy"
        )
        self._say(f"the devices stop; they have written {stage.written} lines")
        await self._until(
            lambda: stage.figures.taken_in == stage.written and stage.figures.waiting == 0 and stage.waiting == 0,
            "nothing waits any more",
            fatal=False,
        )
        status = await self._service.stop()
        self._say(f"the gateway has stopped in order, exit status {status}")
        account = draw_up(
            {device.name: device.written for device in stage.devices},
            {device.name: stage.figures.devices.get(device.name, {}).get("taken_in", 0) for device in stage.devices},
            stage.arrivals,
            stage.figures.waiting,
            stage.figures.lost,
        )
        return account if status == 0 else account._replace(problems=(*account.problems, f"exit status {status}"))

    def _scene(self, number: int, title: str, words: str, mood: str) -> None:
        self._stage.scene = Scene(number, title, words, mood)
        self._view.scene()

    def _mood(self, mood: str) -> None:
        self._stage.scene.mood = mood

    def _say(self, text: str) -> None:
        self._stage.events.append((self._stage.elapsed, text))
        self._view.event(text)

    async def _look(self, seconds: float) -> None:
        """Leave the scene on the stage for a while."""
        until = self._stage.elapsed + seconds * self._pace
        await self._until(lambda: self._stage.elapsed >= until, "time passes")

    async def _until(self, true: Callable[[], bool], what: str, *, fatal: bool = True) -> None:
        """Wait until `true()`, drawing the view. Raises DemoError when it takes too long or the service has ended."""
        deadline = self._stage.elapsed + FAR
        while not true():
            if self._service.ended is not None:
                raise DemoError(f"the gateway ended by itself, exit status {self._service.ended}")
            if self._stage.elapsed > deadline:
                if fatal:
                    raise DemoError(f"waited {FAR:.0f} s in vain until {what}")
                return
            self._stage.sample()
            self._view.tick()
            await asyncio.sleep(0.1)


async def play(folder: Path, view_of: Callable[[Stage], View], pace: float) -> Account:
    """Set everything up in `folder`, tell the story, and take everything down again, whatever happened."""
    plan = Plan(folder)
    devices = [
        SerialDevice("boiler", "JSON lines", folder / "boiler", 100.0, boiler_line),
        SerialDevice("scale", "ST,GS,+ …kg", folder / "scale", 50.0, scale_line),
    ]
    stage = Stage(devices, plan.ports, plan.base)
    service = Service(plan.file, folder, stage.figured)
    async with AsyncExitStack() as ending:
        for device in devices:
            ending.enter_context(device)
        for broker in stage.brokers:
            ending.push_async_callback(broker.kill)
        ending.push_async_callback(service.stop)
        view = ending.enter_context(view_of(stage))
        for words in plan.moved:
            view.event(words)
        try:
            return await Story(stage, view, service, pace).tell()
        except DemoError as error:
            error.add_note("\n".join(service.log))
            raise


async def _interruptible(folder: Path, view_of: Callable[[Stage], View], pace: float) -> Account:
    """Play, and let a hang-up or a polite kill take everything down in order, as Ctrl-C does."""
    playing = asyncio.current_task()
    assert playing is not None  # noqa: S101 - this runs in a task
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    return await play(folder, view_of, pace)


def main(pace: float = 1.0) -> int:
    """Run the demo and return its exit status: 0 if the account is right, 1 if not, 130 if interrupted."""
    if find_spec("amqtt") is None:
        print(MISSING, file=sys.stderr)
        return 1
    console = Console()
    # Not Console.is_terminal: it believes FORCE_COLOR, which says nothing about what stdout is.
    roomy = console.width >= WIDTH and console.height >= HEIGHT
    terminal = console if sys.stdout.isatty() and roomy and not console.is_dumb_terminal else None
    shown: list[Stage] = []

    def view_of(stage: Stage) -> View:
        shown.append(stage)
        return Picture(stage, terminal) if terminal else Lines(stage)

    try:
        with tempfile.TemporaryDirectory(prefix="sensor-gateway-demo-") as folder:
            account = asyncio.run(_interruptible(Path(folder), view_of, pace))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nStopped. Everything that the demo had started has ended.", file=sys.stderr)
        return 130
    except DemoError as error:
        print(f"\nThe demo cannot go on: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    show_account(account, shown[0].events, terminal)
    return 1 if account.problems else 0
