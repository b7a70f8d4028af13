"""The rig: devices, gateway and brokers, all that can be done to them, and the evidence of what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gateway.cli.selftest.children import WARM, Children
from gateway.cli.selftest.destination import Arrival, Destination, Kind, RigError
from gateway.cli.selftest.levers import Levers
from gateway.cli.selftest.line import Line, watch
from gateway.cli.selftest.runs import Gateway, Run
from gateway.cli.selftest.schedule import BROKERS, DEVICES, Act

RATE = 40.0
"""Lines a second that each device writes."""
INTERVAL = 0.3
"""Seconds: the gateway's `commit_interval`."""
CONVALESCENCE = 7.0
"""Seconds after which a card that is well again is used again, at the latest: the outbox tries every five."""
DRAINED = 60.0
"""Seconds within which all must have arrived, once everything is well."""
KINDS = (("json", "normal"), ("csv", "normal"), ("key-value", "high"))
"""How each device writes, and its priority."""
SUBJECT = "gateway.cli.selftest.subject:main"

CONFIG = """[gateway]
id = "selftest"

[outbox]
path = "{folder}/outbox.db"
commit_interval = "{interval}ms"
keep_free = "1MB"

[uplinks.cloud]
brokers = [{brokers}]
protocol = "{protocol}"
connect_timeout = "1s"
ack_timeout = "1s"
reconnect_min = "50ms"
reconnect_max = "500ms"
failback = "500ms"
"""
DEVICE = """
[devices.{name}]
adapter = "serial-text"
port = "{port}"
baudrate = 115200
format = "{form}"
priority = "{priority}"
"""


@dataclass
class Evidence:
    """All that is known of a round, for the account. Times are those of time.time()."""

    runs: list[Run] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    taken: list[Arrival] = field(default_factory=list)
    """Acknowledged by a broker that was killed before anybody had received it."""
    clock: list[tuple[float, float]] = field(default_factory=list)
    """When the gateway's clock was set, and how many seconds it was ahead from then on."""
    ill: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the card could not be counted on."""
    problems: list[str] = field(default_factory=list)


class Rig:
    """Use as `async with`: leaving it ends all that it has started. Entering raises RigError."""

    def __init__(self, folder: Path, kind: Kind, subject: str = SUBJECT, *, cards: bool = True) -> None:
        """`cards`: whether the card can be made to fail. `subject`: what is run as the gateway."""
        self.folder = folder
        self.outbox = folder / "outbox.db"
        self._kind = kind
        self._subject = subject
        self._cards = cards
        self._stack = AsyncExitStack()
        self._evidence = Evidence()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lanes: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._levers = stack.enter_context(Levers(self.folder / "levers"))
            children = await stack.enter_async_context(Children([*WARM, self._subject.partition(":")[0]]))
            self.destinations = {
                name: await stack.enter_async_context(
                    Destination(name, self._kind, self.folder, children, self._evidence_of)
                )
                for name in BROKERS
            }
            self.lines = [
                stack.enter_context(Line(name, form, self.folder / f"tty-{name}", RATE, priority))
                for name, (form, priority) in zip(DEVICES, KINDS, strict=True)
            ]
            call = (self._subject, (str(self._configure()), str(self._levers.path), self._cards))
            self.gateway = Gateway(self.folder, children, call, self.lines, self._is_ill)
            stack.push_async_callback(self._end)
            self._do(watch(self.lines))
            self._writing = [asyncio.create_task(line.run()) for line in self.lines]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def play(self, acts: Sequence[Act], tell: Callable[[Act], None], until: float = float("inf")) -> Evidence:
        """Do what `acts` say, let everything run out, and return the evidence. `tell` is told of each as it begins.

        No act begins after the clock of the loop says `until`, or once something is known to be wrong. Raises RigError
        when the gateway has never got as far as its outbox.
        """
        evidence = self._evidence = Evidence(clock=[(time.time(), 0.0)])
        first = len(self.gateway.runs)
        await self.gateway.start()
        going: list[asyncio.Task[None]] = []
        for act in acts:
            if asyncio.get_running_loop().time() >= until or evidence.problems or self.gateway.problems:
                break
            await asyncio.sleep(act.pause)
            tell(act)
            doing = getattr(self, "_" + act.kind.replace(" ", "_").replace("-", "_"))(act)
            if act.kind in ("kill", "stop"):
                await doing
            else:
                going.append(self._do(self._in_turn(act, doing)))
        if going:
            await asyncio.wait(going)
            for task in going:
                task.result()
        await self._drain(evidence)
        evidence.runs = self.gateway.runs[first:]
        evidence.problems += self.gateway.problems
        self.gateway.problems.clear()
        return evidence

    # ---- the acts

    async def _kill(self, act: Act) -> None:
        await self._at(act)
        await self.gateway.kill()
        await self.gateway.start()

    async def _stop(self, act: Act) -> None:
        await self._at(act)
        await self.gateway.stop()
        await self.gateway.start()

    async def _at(self, act: Act) -> None:
        """Wait for the moment of its run that an act is meant for."""
        run = self.gateway.run
        if act.way == "was ready":
            if not await self.gateway.ready() and not self._is_ill():
                self._evidence.problems.append("the gateway is not ready")
            run = self.gateway.run
        since = run.started if act.way == "was started" else run.ready or time.time()
        await asyncio.sleep(max(0.0, since + act.amount - time.time()))

    async def _broker_killed(self, act: Act) -> None:
        await self.destinations[act.target].kill()
        await asyncio.sleep(act.lasts)
        await self.destinations[act.target].start()

    async def _broker_frozen(self, act: Act) -> None:
        self.destinations[act.target].freeze()
        await asyncio.sleep(act.lasts)
        self.destinations[act.target].thaw()

    async def _cut(self, act: Act) -> None:
        self.destinations[act.target].passage.cut(act.way, int(act.amount))

    async def _half_open(self, act: Act) -> None:
        self.destinations[act.target].passage.swallow = frozenset(act.way.split(" and "))
        await self._healed(act)

    async def _slow_link(self, act: Act) -> None:
        self.destinations[act.target].passage.rate = act.amount
        await self._healed(act)

    async def _refused(self, act: Act) -> None:
        passage = self.destinations[act.target].passage
        passage.refuse = True
        passage.drop()
        await self._healed(act)

    async def _healed(self, act: Act) -> None:
        await asyncio.sleep(act.lasts)
        self.destinations[act.target].passage.heal()

    async def _card(self, act: Act) -> None:
        slow = act.way == "slow"
        began = len(self._evidence.ill)
        self._evidence.ill.append((time.time(), float("inf")))
        self._levers.move(ailment=act.way, pause=act.amount if slow else 0.0, every=1 if slow else int(act.amount))
        await asyncio.sleep(act.lasts)
        self._levers.move(ailment="well", pause=0.0)
        self._evidence.ill[began] = (self._evidence.ill[began][0], time.time() + CONVALESCENCE)

    async def _clock(self, act: Act) -> None:
        for ahead in (act.amount, 0.0):
            self._levers.move(ahead=ahead)
            self._evidence.clock.append((time.time(), ahead))
            await asyncio.sleep(act.lasts if ahead else 0.0)

    async def _unplugged(self, act: Act) -> None:
        line = next(line for line in self.lines if line.name == act.target)
        await line.unplug()
        await asyncio.sleep(act.lasts)
        line.plug()

    # ---- around them

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_turn(self, act: Act, doing: Coroutine[Any, Any, None]) -> None:
        """Let what is done to one thing be over before the next is done to it."""
        link = act.kind in ("cut", "half-open", "slow link", "refused")
        lane = f"link {act.target}" if link else act.target or act.kind
        async with self._lanes.setdefault(lane, asyncio.Lock()):
            await doing

    async def _drain(self, evidence: Evidence) -> None:
        """Let the devices fall silent and everything arrive, and stop the gateway in order."""
        await self.gateway.ready()
        if self.gateway.is_stillborn and not self.outbox.exists():
            raise RigError(self.gateway.problems[-1])
        for line in self.lines:
            line.paused = True
        try:
            seen = await self._all(lambda: self.gateway.is_stillborn or not any(map(Line.has_waiting, self.lines)))
            await asyncio.sleep(0.05)  # what has been read last is taken in
            before = self.gateway.figures
            gone = seen and await self.gateway.until(lambda: self._has_drained(before), DRAINED)
            if not gone and not self.gateway.is_stillborn:
                evidence.problems.append(f"not all has arrived within {DRAINED:g} s: {self._standing()}")
            await self.gateway.stop()
            if not await self._all(lambda: not any(each.life.owed for each in self.destinations.values())):
                evidence.problems.append("what a broker has acknowledged did not come out")
        finally:
            for line in self.lines:
                line.paused = False
        for destination in self.destinations.values():
            evidence.taken += destination.settle()
            if destination.lost:
                evidence.problems.append(f"the receiver at the {destination.name} broker has lost its link")
                destination.lost = 0

    def _has_drained(self, before: object) -> bool:
        """Whether nothing waits, by figures that are newer than `before`."""
        told = self.gateway.figures
        if not told or told is before:
            return False
        return not any(each["waiting"] for each in told["uplinks"].values()) and told["outbox"]["fault"] is None

    def _standing(self) -> str:
        told = self.gateway.figures
        unread = [line.name for line in self.lines if line.has_waiting()]
        return f"uplinks {told.get('uplinks')}, outbox {told.get('outbox')}, not read {unread}"

    async def _all(self, true: Callable[[], bool]) -> bool:
        ends = asyncio.get_running_loop().time() + DRAINED
        while not true():
            if asyncio.get_running_loop().time() > ends:
                return False
            await asyncio.sleep(0.02)
        return True

    def _is_ill(self) -> bool:
        return any(start <= time.time() <= end for start, end in self._evidence.ill)

    def _evidence_of(self, arrival: Arrival) -> None:
        self._evidence.arrivals.append(arrival)

    async def _end(self) -> None:
        for task in (*self._tasks, *self._writing):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._writing, return_exceptions=True)
        await self.gateway.close()

    def _configure(self) -> Path:
        brokers = ", ".join(f'"mqtt://127.0.0.1:{each.passage.port}"' for each in self.destinations.values())
        text = CONFIG.format(
            folder=self.folder, interval=round(INTERVAL * 1000), brokers=brokers, protocol=self._kind.protocol
        )
        text += "".join(
            DEVICE.format(name=line.name, port=line.port, form=line.form, priority=line.priority) for line in self.lines
        )
        file = self.folder / "gateway.toml"
        file.write_text(text.replace('format = "csv"', 'format = "csv"\ncolumns = ["n", "x"]'))
        return file
