"""What every adapter must be, whoever wrote it, as one class of tests to inherit from."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any, ClassVar, get_args

import structlog
from pydantic import BaseModel, ValidationError

from gateway import registry
from gateway.adapter import Adapter
from gateway.backoff import Backoff
from gateway.devices import RunningDevice
from gateway.reading import Value
from gateway.testing.stand_in import StandIn
from gateway.testing.states import StallWatch, Suspensions

PATIENCE = 20.0
"""Seconds until a check gives up."""
STALL = 0.020
"""Seconds for which an adapter may keep the loop from everything else."""
STATES = 200
"""States of waiting that are looked at, at most; a reading that comes earlier ends the walk."""
READINGS = 3
"""Readings after which an adapter has been in all its states."""
ENDING = 5.0
"""Seconds that an adapter has to end in."""
_TRIES = 6  # to show that the loop is not held up; a busy machine can be to blame for most of them
_PAUSE = 0.002  # seconds between two times that the stand-in is asked to speak


class AdapterConformance:
    """Inherit from this as `class TestMySensor(AdapterConformance)`, and say which adapter it is about."""

    adapter: ClassVar[str | type[Adapter]]
    """The adapter, by the name of its entry point or as a class."""

    def stand_in(self, folder: Path) -> StandIn:
        """Return what stands in for the device, not yet plugged in; `folder` is empty and for this one test."""
        raise NotImplementedError

    def kind(self) -> type[Adapter]:
        """Return the class of the adapter."""
        return registry.adapter(self.adapter) if isinstance(self.adapter, str) else self.adapter

    def test_it_says_what_it_is_and_what_each_key_means(self) -> None:
        """The class and each of its keys are described: schema, help and documentation are made of it."""
        kind = self.kind()
        _must(issubclass(kind, Adapter), f"{kind} is no gateway.Adapter")
        _must(kind.__doc__ not in (None, "", Adapter.__doc__), f"{kind.__name__} has no docstring")
        _must(inspect.iscoroutinefunction(kind.run), f"{kind.__name__}.run is no coroutine function")
        for table in tables(kind):
            where = "the key" if table is kind else f"in the table {table.__name__}, the key"
            for key, field in table.model_fields.items():
                words = field.description or ""
                _must(words.endswith("."), f"{where} {key} has no description that ends with a full stop: {words!r}")
        for names in ("exclusive", "shared", "alike"):
            unknown = set(getattr(kind, names)) - set(kind.model_fields)
            _must(not unknown, f"{names} names what is no key: {', '.join(sorted(unknown))}")

    def test_it_is_frozen_and_refuses_unknown_keys(self, tmp_path: Path) -> None:
        """A config is read once, and a typo in it is an error."""
        kind, keys = self.kind(), self.stand_in(tmp_path).keys
        adapter = kind(**keys)
        for key in kind.model_fields:
            try:
                setattr(adapter, key, getattr(adapter, key))
            except ValidationError:
                continue
            raise AssertionError(f"the key {key} can be changed while the device runs")
        for table in tables(kind):
            _must(bool(table.model_config.get("frozen")), f"the keys of {table.__name__} can be changed")
            _must(table.model_config.get("extra") == "forbid", f"{table.__name__} takes keys that do not exist")
        try:
            kind.model_validate({**keys, "no_such_key": 1})
        except ValidationError:
            return
        raise AssertionError("a key that does not exist is taken without a word")

    def test_it_opens_and_emits(self, tmp_path: Path) -> None:
        """With its device there, it is online and gives readings, without a failure and with nothing thrown away."""

        def look(run: Run) -> None:
            _must(run.readings > 0, "it gave no reading")
            _must(run.device.failures == 0, f"it failed on the way: {run.device.reason}")
            _must(run.device.state in ("online", "finished"), f"it is {run.device.state}, in spite of a reading")
            _must(not run.device.skipped, f"it threw away: {run.device.skipped}")

        self._play(tmp_path, look=look)

    def test_it_ends_when_it_is_cancelled_in_any_state(self, tmp_path: Path) -> None:
        """Wherever it waits, a cancellation ends it, with every descriptor closed and no task left."""
        for number in range(STATES):
            run = self._play(tmp_path, number, Run.cancel)
            if not run.states.reached:
                return

    def test_it_finds_its_device_again_when_it_is_lost_in_any_state(self, tmp_path: Path) -> None:
        """Wherever it waits, the loss of the device is an OSError and no bug; when it is back, readings are."""
        if not self.stand_in(tmp_path).can_be_lost:
            return
        for number in range(STATES):
            run = self._play(tmp_path, number, lambda run: run.stand_in.lose(), lost=True)
            if not run.states.reached:
                return

    def test_it_never_holds_up_the_loop(self, tmp_path: Path) -> None:
        """Opening, reading and closing leave the loop to others at least every 20 ms."""
        gc.collect()
        gc.freeze()  # as the service does: a look through all that the tests have made holds up the loop, too
        try:
            held = [self._play(tmp_path, debug=False).watch.longest]
            while min(held) > STALL and len(held) < _TRIES:
                held.append(self._play(tmp_path, debug=False).watch.longest)
        finally:
            gc.unfreeze()
        _must(min(held) <= STALL, f"it has held up the loop for {min(held) * 1000:.0f} ms, and more in other tries")

    def _play(
        self,
        folder: Path,
        number: int = STATES,
        then: Callable[[Run], None] = lambda run: None,
        *,
        lost: bool = False,
        look: Callable[[Run], None] = lambda run: None,
        debug: bool = True,
    ) -> Run:
        """Run the adapter until it has given readings; when it waits for the time `number`, do `then`."""
        before = _descriptors()
        run = Run(self.kind(), self.stand_in(folder), number, then, look)
        run.stand_in.plug()
        try:
            # Not asyncio.run: at its end it would wait for ever for a task that keeps cancellations to itself.
            loop = asyncio.SelectorEventLoop(run.watch)
            loop.set_debug(debug)
            try:
                loop.run_until_complete(run.play(lost=lost))
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                loop.close()
        finally:
            run.stand_in.lose()
        _until_closed(before, number)
        return run


class Run:
    """One run of an adapter with its stand-in, and what came of it."""

    def __init__(
        self,
        kind: type[Adapter],
        stand_in: StandIn,
        number: int,
        then: Callable[[Run], None],
        look: Callable[[Run], None],
    ) -> None:
        self.stand_in = stand_in
        self.readings = 0
        self.watch = StallWatch()
        self.states = Suspensions(number, lambda: then(self))
        self.task: asyncio.Task[None]
        self._number = number
        self._look = look
        self._wanted: float = READINGS
        self._failures: int | None = None  # when the device was lost
        self._cancelled_at = 0  # failures
        self.device = RunningDevice(
            "d",
            kind(**stand_in.keys),
            {},
            self._put,
            on_state=lambda *_: None,
            log=structlog.get_logger(),
            backoff=Backoff(0.001, 0.01),
        )

    def _put(self, _: str, __: dict[str, Value], ___: float | None, ____: float = 0.0) -> None:
        self.readings += 1

    def cancel(self) -> None:
        """Have the device end, as the gateway does when it stops."""
        self._cancelled_at = self.device.failures
        self.task.cancel()

    async def play(self, *, lost: bool) -> None:
        """Run until there are readings, or until what is done on the way has had its consequences."""
        loop = asyncio.get_running_loop()
        own = asyncio.all_tasks()
        end = loop.time() + PATIENCE
        loop.set_task_factory(self.states)
        self.task = loop.create_task(self.device.run())
        try:
            while not self.task.done() and self.readings < self._wanted:
                _must(loop.time() < end, f"{self._where()}: nothing more within {PATIENCE:g} s: {self._reason()}")
                _must(self.device.state != "failed", f"{self._where()}: a bug: {self._reason()}")
                self.stand_in.speak()
                if lost and self.states.reached:
                    self._bring_back()
                await asyncio.sleep(_PAUSE)
            self._look(self)
        finally:
            await self._end(own)

    def _bring_back(self) -> None:
        """Plug the device in again once its loss was noticed, and then wait for a reading."""
        if self._failures is None:
            self._failures, self._wanted = self.device.failures, inf
        elif self._wanted == inf and self.device.failures > self._failures:
            self.stand_in.plug()
            self._wanted = self.readings + 1

    async def _end(self, own: set[asyncio.Task[Any]]) -> None:
        """Cancel the device, if that is not done yet, and see that nothing of it is left."""
        loop = asyncio.get_running_loop()
        cancelled = bool(self.task.cancelling())
        failures = self._cancelled_at if cancelled else self.device.failures
        self.task.cancel()
        await asyncio.wait([self.task], timeout=ENDING)
        loop.set_task_factory(None)
        if not self.task.done():
            self.task.cancel()  # many that keep one cancellation to themselves end by the next
            await asyncio.wait([self.task], timeout=ENDING)
            raise AssertionError(f"{self._where()}: it did not end within {ENDING:g} s of its cancellation")
        if self.task.cancelled():
            pass
        elif self.task.exception() is not None:
            raise AssertionError(f"{self._where()}: a cancellation became an error") from self.task.exception()
        else:
            _must(not cancelled, f"{self._where()}: it kept the cancellation to itself")
        why = self.device.reason
        _must(self.device.failures == failures, f"{self._where()}: its cancellation became a failure: {why}")
        for task in (left := asyncio.all_tasks() - own):
            task.cancel()
        _must(not left, f"{self._where()}: it left tasks behind: {left}")

    def _where(self) -> str:
        return f"in its state of waiting number {self._number}" if self.states.reached else "undisturbed"

    def _reason(self) -> str:
        if self.device.reason is None and self.device.skipped:
            return f"it threw away: {self.device.skipped}"
        return self.device.reason or "and it gave no reason"


def tables(kind: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the model of a table of the config, and those of all tables in it."""
    found, left = [], [kind]
    while left:
        table = left.pop()
        if table not in found:
            found.append(table)
            left += [one for field in table.model_fields.values() for one in _models_in(field.annotation)]
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _must(condition: bool, words: str) -> None:
    if not condition:
        raise AssertionError(words)


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return found


def _until_closed(before: dict[str, str], number: int) -> None:
    """Wait until no more is open than before: an opening in a thread may still be on its way."""
    end = time.monotonic() + ENDING
    while left := {fd: target for fd, target in _descriptors().items() if before.get(fd) != target}:
        _must(time.monotonic() < end, f"cancelled or lost in state {number}, it left open: {left}")
        time.sleep(_PAUSE)
