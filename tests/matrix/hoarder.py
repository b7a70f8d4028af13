"""A process that lets 100,000 messages wait for a broker that is away, twice, and tells what memory that has taken.

Arguments: folder, and "memory" or "store".
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path

from gateway import Client
from tests.system.harness import Mosquitto

MESSAGES = 100_000
SIZE = 500  # bytes of a payload
PAGE = 4096


def memory() -> tuple[int, int]:
    """Return how many bytes of this process are in memory now, and how many objects Python has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE, sys.getallocatedblocks()


async def pile_up(client: Client) -> None:
    """Publish what nobody takes. With a store, now and then what is published waits until it is there."""
    for number in range(MESSAGES):
        await client.publish("t", number.to_bytes(SIZE, "big"), stored=number % 1000 == 0)
    assert client.status.waiting == MESSAGES


async def hoard(folder: Path, where: str) -> dict[str, tuple[int, int]]:
    """Let messages pile up and go, twice; return the memory after each step."""
    taken: dict[str, tuple[int, int]] = {}
    store = folder / "client.db" if where == "store" else None
    with Mosquitto(folder, "hoarded") as broker:
        broker.stop()
        async with Client(
            broker.url, store=store, client_id="hoarder", reconnect_min=0.05, reconnect_max=0.1
        ) as client:
            taken["empty"] = memory()
            for turn in ("first", "second"):
                await pile_up(client)
                taken[f"{turn} waiting"] = memory()
                broker.start()
                assert await client.flush(60)
                taken[f"{turn} gone"] = memory()
                broker.stop()
            assert client.status.delivered == 2 * MESSAGES
            assert client.status.lost == 0
    return taken


def main() -> None:
    """Hoard, and print the result as JSON."""
    print(json.dumps(asyncio.run(hoard(Path(sys.argv[1]), sys.argv[2]))))


if __name__ == "__main__":
    main()
