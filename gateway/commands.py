"""Commands from outside: from a topic to the device, or the gateway itself, and the result back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import orjson

from gateway.adapter import Metric
from gateway.announce import Again, Announcer
from gateway.devices import RunningDevice
from gateway.devices.commands import Answered, Arrival, Asked, fit, parse, patience, published
from gateway.devices.orders import Order, Outcome
from gateway.devices.spent import Spent, mark
from gateway.mqtt import Message, Subscription
from gateway.mqtt.topics import check_topic
from gateway.reading import Publication

MAX_AGE = 30.0
"""Seconds after which a command is too old to be carried out, unless told otherwise."""
LINES, CALM = 20, 10.0
"""Lines of the log about commands in so many seconds, at most: anybody who may publish can send any number."""
EARLIER = "it was begun by an earlier run of the gateway; nobody knows whether it was carried out"
HARMLESS = ("ping", "status")
"""Commands of the gateway that may be carried out any number of times: no card has to know of them."""

Own: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""Carries a command of the gateway out: takes all that it says, and returns what its result says, now or when that is
awaited. Raises ValueError."""


class Target(NamedTuple):
    """A device that commands can be for, and what the config says of its metrics."""

    device: RunningDevice
    metrics: Mapping[str, Metric]

    def metric(self, published: str) -> tuple[str, Metric | None]:
        """Return what the device calls the metric that is published under this name, and what is declared of it."""
        for name, metric in self.metrics.items():
            if (metric.rename or name) == published:
                return name, metric
        return published, None


@dataclass(slots=True)
class _Call:
    """One command, where its result goes, and what that is."""

    uplink: str
    topic: str
    properties: dict[str, Any]
    about: dict[str, Any]  # what the result says of the command itself
    devices: Collection[str] | None  # whose commands come this way; None: those of all
    metric: Metric | None = None
    outcome: Outcome | None = None
    more: Mapping[str, Any] | None = None  # what else the result says
    mark: str | None = None  # what stands for its id on the card
    again: bool = False  # an earlier run had it

    @property
    def name(self) -> str:
        """What it is called in the log."""
        if "command" in self.about:
            return f"command {self.about['command']}"
        return f"{self.about['device']}: {self.about['metric']} = {self.about.get('value', '?')}"


class Commands:
    """Takes commands from uplinks, sees that each is carried out once at most, and says what became of it.

    `prefix` is `{base}/{gateway}`. `say` publishes over an uplink of that name, and returns whether it could. `times`
    returns UTC as it is now, None while the clock is not set, and when this run began, in UTC as well. `spent` knows
    the ids of earlier runs; None: nobody does. Nothing here waits: who sends commands does not hold up readings.
    """

    def __init__(
        self,
        prefix: str,
        say: Callable[[str, Publication], bool],
        times: Callable[[], tuple[float | None, float]],
        *,
        max_age: float = MAX_AGE,
        spent: Spent | None = None,
        logger: Any,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = prefix
        self._say = say
        self._times = times
        self.max_age = max_age
        self._logger = logger
        self._clock = clock
        self._devices: Mapping[str, Target] = {}
        self._own: Mapping[str, Own] = {}
        self._answered = Answered[_Call]()
        self._spent = spent or Spent(None, logger)
        self._tasks: set[asyncio.Task[None]] = set()  # commands of the gateway that take their time
        self._lines = 0  # of the log, since
        self._since = 0.0

    @property
    def subscriptions(self) -> list[Subscription]:
        """What an uplink subscribes to that may bring commands."""
        # With retain_as_published a retained command is known as one also when it is new.
        filters = (f"{self._prefix}/+/+/set", f"{self._prefix}/command")
        return [Subscription(name, 1, retain_as_published=True) for name in filters]

    def serve(self, devices: Mapping[str, Target], own: Mapping[str, Own]) -> None:
        """Carry commands out from now on: those for `devices`, and the gateway's `own`."""
        self._devices = devices
        self._own = own

    async def close(self) -> None:
        """Answer nothing more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def received(
        self, uplink: str, message: Message, *, kept: bool = False, devices: Collection[str] | None = None
    ) -> None:
        """Take a message from an uplink; `kept`: the broker may have had it while the gateway was away.

        `devices`: it knows of no others.
        """
        prefix, _, rest = message.topic.partition(self._prefix + "/")
        match rest.split("/") if not prefix else ():
            case [device, metric, "set"]:
                about = {"device": device, "metric": metric}
                call = self._call(uplink, message, f"{device}/{metric}", about, devices)
                self._take(call, message, "value", partial(self._set, call), kept=kept)
            case ["command"]:
                call = self._call(uplink, message, "command", {"command": "?"}, devices)
                self._take(call, message, "command", partial(self._do, call), kept=kept)

    def _call(
        self, uplink: str, message: Message, path: str, about: dict[str, Any], devices: Collection[str] | None
    ) -> _Call:
        """Return where the result goes: to where the sender wants it, or beside the command."""
        topic = message.properties.get("response_topic")
        try:
            check_topic(topic or "")
        except ValueError:
            topic = None
        properties: dict[str, Any] = {"content_type": "application/json"}
        if "correlation_data" in message.properties:
            properties["correlation_data"] = message.properties["correlation_data"]
        return _Call(uplink, topic or f"{self._prefix}/{path}/result", properties, about, devices)

    def _take(
        self, call: _Call, message: Message, key: str, carry_out: Callable[[Asked, float], None], *, kept: bool
    ) -> None:
        try:
            asked = parse(message.payload, key)
            call.about[key] = asked.content[key]
            if asked.id is not None:
                call.about["id"] = asked.id
                if self._is_known((message.topic, asked.id), call):
                    return
                call.mark = mark(message.topic, asked.id)
                if call.mark in self._spent:
                    call.again = True
                    self._ended(call, Outcome("failed", EARLIER))
                    return
            arrival = Arrival(message.retain, message.dup, kept, message.properties.get("message_expiry_interval"))
            carry_out(asked, patience(asked, arrival, *self._times(), self.max_age))
        except ValueError as error:
            self._ended(call, Outcome("refused", str(error)))

    def _is_known(self, key: tuple[str, str], call: _Call) -> bool:
        """Say whether this id came before, and then what became of it, to whoever asks now."""
        known = self._answered.get(key)
        if known is None:
            self._answered.put(key, call)
            return False
        known.uplink, known.topic, known.properties = call.uplink, call.topic, call.properties
        if known.outcome is not None:
            self._publish(known, again=True)
        return True

    def _set(self, call: _Call, asked: Asked, seconds: float) -> None:
        """Have a device set a metric. Raises ValueError."""
        target = self._target(call, call.about["device"])
        name, metric = target.metric(call.about["metric"])
        if not target.device.adapter.can_set(name):
            raise ValueError("the device has no such metric that can be set")
        if metric is None or not metric.settable:
            raise ValueError("the config does not allow it to be set: settable = true")
        value = fit(asked.content["value"], metric)
        call.metric = metric
        order = Order(name, value, asked.id, partial(self._ended, call))
        self._begin(call, seconds, partial(target.device.order, order))

    def _do(self, call: _Call, asked: Asked, seconds: float) -> None:
        """Have the gateway do what it can itself. Raises ValueError."""
        own_name = str(asked.content["command"])
        own = self._own.get(own_name)
        if own is None:
            raise ValueError(f"there is no such command; there are: {', '.join(self._own)}")
        if "device" in asked.content:
            self._target(call, asked.content["device"])
        if own_name in HARMLESS:
            self._carry_out(call, own, asked)
        else:
            self._begin(call, seconds, lambda _: self._carry_out(call, own, asked))

    def _begin(self, call: _Call, seconds: float, carry_out: Callable[[float], None]) -> None:
        """Have it carried out once the card knows of its id, if that is soon enough. Raises ValueError."""
        ends = self._clock() + seconds

        def begin() -> None:
            left = ends - self._clock()
            try:
                if left <= 0:
                    raise ValueError("it has expired")
                carry_out(left)
            except ValueError as error:
                self._ended(call, Outcome("refused", str(error)))

        self._spent.begin(call.mark, begin)

    def _carry_out(self, call: _Call, own: Own, asked: Asked) -> None:
        """Do what the gateway itself can. Raises ValueError."""
        more = own(asked.content)
        if isinstance(more, Mapping):
            self._done(call, more)
        else:
            task = asyncio.get_running_loop().create_task(self._await(call, more), name=call.name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _await(self, call: _Call, more: Awaitable[Mapping[str, Any]]) -> None:
        try:
            self._done(call, await more)
        except ValueError as error:
            self._ended(call, Outcome("refused", str(error)))

    def _done(self, call: _Call, more: Mapping[str, Any]) -> None:
        call.more = more
        self._ended(call, Outcome("done"))

    def _target(self, call: _Call, device: object) -> Target:
        """Return a device that this uplink knows of. Raises ValueError."""
        target = self._devices.get(device) if isinstance(device, str) else None
        if target is None or (call.devices is not None and device not in call.devices):
            raise ValueError("there is no such device")
        return target

    def _ended(self, call: _Call, outcome: Outcome) -> None:
        call.outcome = outcome
        told = self._publish(call)
        now = self._clock()
        if now - self._since >= CALM:
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES:
            return
        details = {"uplink": call.uplink, **({"id": call.about["id"]} if "id" in call.about else {})}
        details |= {} if told else {"result": "not published: no link, or no room"}
        if outcome.result == "done":
            self._logger.info(f"{call.name}: done", **details)
        else:
            self._logger.warning(f"{call.name}: {outcome.result}: {outcome.reason}", **details)
        if self._lines == LINES:
            self._logger.warning(f"many commands: no more lines about them for {CALM:g} s")

    def _publish(self, call: _Call, *, again: bool = False) -> bool:
        outcome, read_back = call.outcome, None
        assert outcome is not None  # noqa: S101 - it has ended
        if outcome.read_back is not None:
            read_back = outcome.read_back if call.metric is None else published(outcome.read_back, call.metric)
        now, _ = self._times()
        says = {
            "ts": None if now is None else round(now * 1000),
            **call.about,
            "result": outcome.result,
            "read_back": read_back,
            "reason": outcome.reason,
            "again": again or call.again or None,
            **(call.more or {}),
        }
        payload = orjson.dumps({name: value for name, value in says.items() if value is not None})
        return self._say(call.uplink, Publication(call.topic, payload, 1, properties=call.properties))


class Listening(Again):
    """An uplink's observer that also takes commands."""

    def __init__(
        self, announcer: Announcer, uplink: str, commands: Commands, devices: Collection[str] | None = None
    ) -> None:
        """`devices`: those whose readings the uplink carries; None: all."""
        super().__init__(announcer, uplink)
        self._devices = devices
        self._name = uplink
        self._commands = commands
        self._kept = False

    def connected(self, broker: str, protocol: str, session_present: bool) -> None:
        """A link is active now."""
        self._kept = session_present
        super().connected(broker, protocol, session_present)

    def received(self, message: Message) -> None:
        """A message has come."""
        self._commands.received(self._name, message, kept=self._kept, devices=self._devices)
