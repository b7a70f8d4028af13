"""What an outage costs the card: collected for an hour without a broker, then delivered; in simulated time."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.measure import DISK
from bench.report import Goal, table
from gateway.formats import FORMATS
from gateway.outbox.card import block, opening, store, wear
from gateway.outbox.card.store import Store
from gateway.outbox.committer import SPARE, STEP
from gateway.outbox.log import Log
from gateway.reading import Reading, Value

RATE = 100
"""Readings a second; one transaction a second, as with `commit_interval = "1s"`."""
DRAINED = 10_000
"""Readings a second that a broker takes afterwards."""
NOW = 1_763_600_000.0


@dataclass(frozen=True)
class Cost:
    """What an outage has cost. Bytes are for each reading."""

    payload: float  # of a reading, as it is published
    causes: Mapping[str, float]  # written, by cause
    whole: float  # the same, as the kernel hands it on: in pages of 4 KiB
    kept: float  # on the card when the broker is back, its log included
    left: int  # bytes of the file when all is over
    cpu: float  # seconds for 100,000 readings, of which some were spent on making them

    @property
    def written(self) -> float:
        """All that was written."""
        return sum(self.causes.values())


def measured() -> Iterator[dict[str, Value]]:
    """Yield what a sensor measures: values that wander."""
    dice = random.Random(1)
    temperature, humidity, pressure = 21.5, 40.0, 1013.0
    while True:
        temperature += dice.gauss(0, 0.1)
        humidity += dice.gauss(0, 0.3)
        pressure += dice.gauss(0, 0.1)
        yield {
            "temperature": round(temperature, 2),
            "humidity": round(humidity, 1),
            "pressure": round(pressure, 2),
            "supply": round(dice.uniform(3.2, 3.3), 3),
            "ok": True,
        }


def drawn() -> Iterator[dict[str, Value]]:
    """Yield what nothing can be guessed of: 33 random digits of 4 bits."""
    dice = random.Random(1)
    while True:
        yield {"code": f"{dice.getrandbits(132):033x}", "supply": round(dice.uniform(3.2, 3.3), 3), "state": "ok"}


def outage(
    seconds: int,
    kind: Callable[[], Iterator[dict[str, Value]]] = measured,
    drained: int = DRAINED,
    *,
    disk: str = DISK,
    then: Callable[[Store], object] = lambda _: None,
) -> Cost:
    """Collect for so many seconds, then deliver and delete all of it; `then` is done to the store when it is open."""
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        before, cpu = whole_pages(), time.thread_time()
        one = Store(Path(folder, "outbox.db"), max_size=10**9, keep_free=0, uplinks=["cloud"])
        state, _ = one.open("boot", NOW - 1000.0, 1.0, 1000.0)
        then(one)
        log = Log(state, ["cloud"])
        payload, used = collect(one, log, seconds, kind())
        deliver(one, log, drained)
        one.close(clean=True)
        causes = one.meter.wear(seconds).bytes
        cpu = time.thread_time() - cpu
        left = Path(folder, "outbox.db").stat().st_size
        whole = whole_pages() - before
    if causes is None:
        raise OSError("this kernel does not count what a thread writes")
    count = RATE * seconds
    each = {cause: value / count for cause, value in causes.items()}
    return Cost(payload / count, each, whole / count, used / count, left, cpu / count * 1e5)


def collect(one: Store, log: Log, seconds: int, values: Iterator[dict[str, Value]]) -> tuple[int, int]:
    """Take readings in, and write them once a second; return the bytes of their payloads, and those on the card."""
    dice, payload, used = random.Random(2), 0, 0
    for second in range(seconds):
        for n in range(RATE):
            log.put("boiler", next(values), 1000.0 + second + n / RATE + dice.uniform(0, 0.001), None)
        payload += sum(map(size, log.tail.slice(log.flushed, log.next_id)))
        used = transact(one, log)
    return payload, used


def deliver(one: Store, log: Log, drained: int) -> None:
    """Have the broker take all, and note that once a second."""
    follower = log.followers["cloud"]
    at, count = follower.floor, 0
    while at < log.next_id:
        page, _ = one.read(at, log.next_id, min(1000, drained))
        log.acknowledge(follower, [reading.id for reading in page.readings])
        at, count = page.end, count + len(page.readings)
        if count >= drained or at >= log.next_id:
            transact(one, log)
            count = 0


def transact(one: Store, log: Log) -> int:
    """Do what the committer does, without waiting; return the bytes in use on the card."""
    commit = log.begin()
    written = one.commit(commit, None)
    log.finish(commit, written.blocks)
    one.checkpoint()
    if written.spare > SPARE:
        while one.give_back(STEP, SPARE // 4):
            pass
    return one.written().used


def size(reading: Reading) -> int:
    """Return the bytes of a payload."""
    payload: bytes = FORMATS["json"](reading, int(NOW * 1000), False)
    return len(payload)


def whole_pages() -> int:
    """Return the bytes that this thread has made the kernel write, which writes whole pages of 4 KiB."""
    lines = Path("/proc/thread-self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


@contextmanager
def instead(*changes: tuple[ModuleType, str, Any]) -> Iterator[None]:
    """Measure with other constants than those that were chosen."""
    before = [(room, name, getattr(room, name)) for room, name, _ in changes]
    for room, name, value in changes:
        setattr(room, name, value)
    try:
        yield
    finally:
        for room, name, value in before:
            setattr(room, name, value)


def one_by_one(readings: Sequence[Reading], _: object = ()) -> Iterator[tuple[list[Reading], bool]]:
    """Cut into blocks of a single reading: a row for each."""
    return (([reading], False) for reading in readings)


def pages_of(size: int) -> AbstractContextManager[None]:
    """Measure with pages of so many bytes."""
    return instead((opening, "PAGE_SIZE", size), (store, "PAGE_SIZE", size))


def zeros(one: Store) -> None:
    """Write zeros over all that is deleted, as Debian's SQLite does by itself."""
    one._db.execute("PRAGMA secure_delete = ON")  # noqa: SLF001


ALTERNATIVES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "as it is": nullcontext,
    "pages of 1024 bytes": lambda: pages_of(1024),
    "pages of 2048 bytes": lambda: pages_of(2048),
    "pages of 4096 bytes": lambda: pages_of(4096),
    "log of 100 pages": lambda: instead((store, "CHECKPOINT", 100)),
    "log of 1000 pages": lambda: instead((store, "CHECKPOINT", 1000)),
    "log of 4000 pages": lambda: instead((store, "CHECKPOINT", 4000)),
    "not compressed": lambda: instead((block, "LEVEL", 0)),
    "zlib level 1": lambda: instead((block, "LEVEL", 1)),
    "zlib level 6": lambda: instead((block, "LEVEL", 6)),
    "the run's row with each commit": lambda: instead((store, "LAG", 0)),
    "a row for each reading": lambda: instead((store, "cut", one_by_one)),
}


def measure_wear(seconds: int) -> list[Goal]:
    """Measure the outage as it is, and as it would be otherwise."""
    found = {}
    for name, how in ALTERNATIVES.items():
        with how():
            found[name] = outage(seconds)
    found["zeros over what is deleted"] = outage(seconds, then=zeros)
    found["drained at 200 readings a second"] = outage(seconds, drained=200)
    found["readings of random digits"] = outage(seconds, drawn)
    chosen = found["as it is"]
    heads = ["", "written", *wear.CAUSES, "in 4 KiB pages", "kept", "of the payload: written", "kept", "CPU s"]
    rows = [
        [
            name,
            f"{cost.written:.1f}",
            *(f"{cost.causes[cause]:.1f}" for cause in wear.CAUSES),
            f"{cost.whole:.0f}",
            f"{cost.kept:.1f}",
            f"{cost.written / cost.payload:.2f}",
            f"{cost.kept / cost.payload:.2f}",
            f"{cost.cpu:.2f}",
        ]
        for name, cost in found.items()
    ]
    title = (
        f"Wear: {seconds} s without a broker at {RATE} readings a second of {chosen.payload:.0f} bytes, then drained; "
        "bytes for each reading, CPU for 100,000"
    )
    table(title, heads, rows)
    written, kept = chosen.written / chosen.payload, chosen.kept / chosen.payload
    return [
        Goal("written to the card, of the payload: at most 1.0", written, written <= 1.0),
        Goal("kept on the card, of the payload: at most 0.25", kept, kept <= 0.25),
    ]
