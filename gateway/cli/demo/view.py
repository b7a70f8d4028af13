"""How the demo is shown: a live picture on a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.cli.demo.account import Account
from gateway.cli.demo.rig import EmbeddedBroker
from gateway.cli.demo.stage import SAMPLE, Stage
from gateway.cli.tables import number

MOODS = {"good": "green", "bad": "red", "busy": "yellow"}
BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 78, 20  # the least that a terminal must have for the picture
SCENES = 6


class View(Protocol):
    """Whoever shows the demo. It is entered once, and told of each new scene, each event and each tick."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop showing, and leave the terminal as it was."""
        ...

    def scene(self) -> None:
        """Show that a new scene has begun."""
        ...

    def event(self, text: str) -> None:
        """Show that something has happened."""
        ...

    def tick(self) -> None:
        """Show how things stand; called about ten times a second."""
        ...


def sparkline(values: list[int], width: int, top: int) -> str:
    """Draw the newest `width` values as blocks; `top` and whatever is above it at full height."""
    return "".join(BLOCKS[max(1, min(8, -(-value * 8 // top)))] for value in values[-width:]).rjust(width)


class Lines:
    """Plain lines, for a pipe or a file: each scene, each event, and how things stand once a second."""

    def __init__(self, stage: Stage) -> None:
        """Show `stage`."""
        self._stage = stage
        self._told = 0

    def __enter__(self) -> Self:
        """Begin to show."""
        print("sensor-gateway demo: two serial devices, one gateway, two brokers; no hardware", flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the pipe as it is."""

    def scene(self) -> None:
        """Print the scene's title and its words."""
        scene = self._stage.scene
        print(f"\n{scene.number} of {SCENES}: {scene.title}. {scene.words}", flush=True)

    def event(self, text: str) -> None:
        """Print one event with its time."""
        print(f"{self._stage.elapsed:6.1f} s  {text}", flush=True)

    def tick(self) -> None:
        """Print how things stand, once a second."""
        stage = self._stage
        if int(stage.elapsed) == self._told or not stage.written:
            return
        self._told = int(stage.elapsed)
        over = f"over {stage.active.name}" if stage.active else "no broker"
        arrived = ", ".join(f"{broker.name} {broker.arrived}" for broker in stage.brokers)
        said = ", ".join(f"{device.name} {device.words}" for device in stage.devices)
        print(f"{stage.elapsed:6.1f} s  {over}; arrived: {arrived}; in the outbox: {stage.waiting}; {said}", flush=True)


class Picture:
    """A live picture, for a terminal that has room for it."""

    def __init__(self, stage: Stage, console: Console) -> None:
        """Show `stage` on `console`."""
        self._stage = stage
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._frame = 0

    def __enter__(self) -> Self:
        """Begin to show."""
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the picture away."""
        self._live.__exit__(None, None, None)

    def scene(self) -> None:
        """Show the new scene at once."""
        self.tick()

    def event(self, text: str) -> None:
        """Keep the event on the time line."""
        self.tick()

    def tick(self) -> None:
        """Draw the picture anew."""
        self._frame += 1
        self._live.update(self._draw(), refresh=True)

    def _draw(self) -> Group:
        stage = self._stage
        mood = MOODS[stage.scene.mood]
        width = min(80, self._console.width)
        head = Table.grid(expand=True)
        head.width = width
        head.add_column()
        head.add_column(justify="right")
        head.add_row(
            Text.assemble((" sensor-gateway ", "bold reverse"), "  from the serial line to two brokers"),
            Text(f"Ctrl-C stops {stage.elapsed:4.0f} s ", "dim"),
        )
        scene = Panel(
            Text(stage.scene.words, overflow="fold"),
            title=Text(f" {stage.scene.number}/{SCENES}  {stage.scene.title} ", f"bold {mood}"),
            title_align="left",
            border_style=mood,
            width=width,
            height=4,
        )
        parts: list[ConsoleRenderable] = [
            head,
            Text(),
            scene,
            *self._diagram(),
            Text(),
            *self._gauges(),
            Text(),
            *self._newest(),
        ]
        room = self._console.height - len(parts) - 4  # the panel is four lines high, and the last line stays free
        events = [Text.assemble((f" {at:5.1f} s  ", "dim"), text) for at, text in stage.events[-max(1, min(room, 8)) :]]
        return Group(*parts, *events)

    def _diagram(self) -> list[Text]:
        """Draw devices, gateway and brokers, with a bead running along the way that readings take."""
        stage = self._stage
        active = stage.active
        flowing = stage.flowing
        names = [Text(f" {device.name:<8}", "bold").append(f"{device.kind:<15}", "dim") for device in stage.devices]
        words = [Text(f" {device.words:<23}", "cyan") for device in stage.devices]
        taken_in, waiting = number(stage.figures.taken_in), number(stage.waiting)
        box = (
            Text(" ╭─── the gateway ───╮"),
            Text.assemble(" │ taken in ", (f"{taken_in:>8}", "bold"), " │"),
            Text.assemble(" │ waiting  ", (f"{waiting:>8}", "bold yellow" if stage.waiting > 99 else "bold"), " │"),
            Text(" ╰───────────────────╯"),
        )
        shapes = ("───╮  ", "   ├─▶", "───╯  ", "      ")
        left = [self._wire(shape, flowing, "cyan", row) for row, shape in enumerate(shapes)]
        first, second = stage.brokers
        joint = self._wire("──┤  ", flowing and active is not None, "green", 0)
        return [
            Text.assemble(names[0], left[0], box[0], "  ", self._way("╭", first, active), self._state(first, active)),
            Text.assemble(words[0], left[1], box[1], joint, "    ", self._count(first)),
            Text.assemble(names[1], left[2], box[2], "  ", self._way("╰", second, active), self._state(second, active)),
            Text.assemble(words[1], left[3], box[3], "         ", self._count(second)),
        ]

    def _wire(self, shape: str, flowing: bool, style: str, offset: int) -> Text:
        """Draw a piece of the way; a bead runs along its straight part while readings flow."""
        straight = [place for place, sign in enumerate(shape) if sign == "─"]
        if not flowing or not straight:
            return Text(shape, style if flowing else "dim")
        place = straight[(self._frame // 2 + offset) % len(straight)]
        return Text.assemble((shape[:place], style), ("•", f"bold {style}"), (shape[place + 1 :], style))

    def _way(self, corner: str, broker: EmbeddedBroker, active: EmbeddedBroker | None) -> Text:
        if not broker.up:
            return Text(f"{corner}─ ✗  ", "red")
        return self._wire(f"{corner}───▶ ", broker is active and self._stage.flowing, "green", 0)

    def _state(self, broker: EmbeddedBroker, active: EmbeddedBroker | None) -> Text:
        state = ("in use", "bold green") if broker is active else ("up", "green") if broker.up else ("down", "bold red")
        return Text.assemble((f"{broker.name:<10}", "bold"), state)

    def _count(self, broker: EmbeddedBroker) -> Text:
        return Text.assemble((f"{number(broker.arrived):>6}", "bold"), " arrived")

    def _gauges(self) -> list[Text]:
        """Draw the outbox as a bar, and the recent past of both ends as sparklines."""
        stage = self._stage
        waiting, width = stage.waiting, 46
        usual = sum(round(device.rate) for device in stage.devices)
        most = max(stage.peak, 10 * usual)
        full = min(width, round(waiting * width / most))
        past, arrived = [w for w, _ in stage.history], [round(a / SAMPLE) for _, a in stage.history]
        rows = (
            ("in the outbox", "█" * full + "░" * (width - full), "yellow", f"{number(waiting):>6}"),
            ("  its past", sparkline(past, width, most), "yellow", f"{number(stage.peak):>6} at most"),
            ("arriving", sparkline(arrived, width, 2 * usual), "green", f"{number((arrived or [0])[-1]):>6} a second"),
        )
        return [Text.assemble(f" {name:<14}", (drawn, style), (figure, "bold")) for name, drawn, style, figure in rows]

    def _newest(self) -> list[Text]:
        topic, payload = self._stage.newest
        if not topic:
            return []
        line = Text.assemble((f" {topic}  ", "bold"), (payload, "dim"))
        line.truncate(self._console.width - 1, overflow="ellipsis")
        return [line, Text()]


def show_account(account: Account, events: list[tuple[float, str]], console: Console | None) -> None:
    """Print the account: on a terminal with what happened before it and as a table, in a pipe as plain lines."""
    heads = ("", "written", "taken in", "delivered", "waiting", "ledger", "duplicates")
    sums = [sum(column) for column in zip(*(row[1:] for row in account.rows), strict=True)]
    say: Callable[[int], str] = number if console else str
    rows = [(row.device, *map(say, row[1:4]), "", "", say(row.duplicates)) for row in account.rows]
    total = ("in all", *map(say, (*sums[:3], account.waiting, account.ledger, sums[3])))
    verdict = account.problems or ("Right: every line that the devices wrote has arrived, with its values.",)
    if not account.problems:
        verdict += ("No seq is missing, nothing waits, nothing is in the ledger.",)
    if sums[3]:
        verdict += (f"{sums[3]} arrived twice: the acknowledgement was lost with its broker.",)
    if console is None:
        print("\nThe account")
        for line in (heads, *rows, total):
            print(f"{line[0]:<8}" + "".join(f"{cell:>12}" for cell in line[1:]))
        print(*verdict, sep="\n", flush=True)
        return
    for at, text in events:
        console.print(Text.assemble((f" {at:5.1f} s  ", "dim"), text))
    table = Table()
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left")
    for cells in rows:
        table.add_row(*cells)
    table.add_section()
    table.add_row(*total, style="bold")
    console.print(Text("\n The account", "bold"), table)
    for place, words in enumerate(verdict):
        style = "bold red" if account.problems else "default" if place else "bold green"
        console.print(Text(f" {words}", style))
