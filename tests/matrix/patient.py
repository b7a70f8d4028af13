"""A process that holds a client to a broker that never works, and tells at its end what that has cost.

Arguments: URL, seconds, and how names are resolved: "well", "never" (the name server is silent) or "not" (it says no).
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import threading
import time
from typing import Any

from gateway import Client

PULSE = 0.05
ask = socket.getaddrinfo


def silent(host: str, *arguments: Any, flags: int = 0, **more: Any) -> list[Any]:
    """Do as a resolver does whose name server does not answer."""
    if not flags & socket.AI_NUMERICHOST:
        threading.Event().wait()
    return ask(host, *arguments, flags=flags, **more)


def failing(host: str, *arguments: Any, flags: int = 0, **more: Any) -> list[Any]:
    """Do as a resolver does that cannot reach its name server."""
    if not flags & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return ask(host, *arguments, flags=flags, **more)


async def pulse(stalls: list[float]) -> None:
    """Note by how much the loop is late, again and again."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PULSE
        await asyncio.sleep(PULSE)
        stalls.append(loop.time() - due)


async def hold(url: str, seconds: float) -> dict[str, Any]:
    """Have a message wait for this broker; return what it costs from the first failure on."""
    failed = asyncio.Event()
    reasons: list[str] = []

    def note(event: Any) -> None:
        reasons.append(event.reason)
        failed.set()

    async with Client(url, connect_timeout=1.0, ack_timeout=1.0, on_reconnecting=note, keep_alive=2) as client:
        delivery = await client.publish("t", "still here")
        await failed.wait()
        gc.collect()  # one of a whole heap, in so short a window, would cost more than all the rest
        began, spent = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        spent = (time.process_time() - spent) / (time.monotonic() - began)
        # Not at the same time, because the pulse costs as much as all the rest.
        stalls: list[float] = []
        beating = asyncio.create_task(pulse(stalls))
        seen = len(reasons)
        while len(reasons) == seen or len(stalls) < 20:
            await asyncio.sleep(PULSE)
        beating.cancel()
        result = {
            "cpu": spent,
            "stall": max(stalls),
            "attempts": len(reasons),
            "reasons": sorted(set(reasons)),
            "waiting": client.status.waiting,
            "delivery": delivery.state,
        }
        began = time.monotonic()
        await client.close(0.1)
        return {**result, "close": time.monotonic() - began}


def main() -> None:
    """Hold, and print the result as JSON."""
    url, seconds, names = sys.argv[1:]
    socket.getaddrinfo = {"well": ask, "never": silent, "not": failing}[names]
    print(json.dumps(asyncio.run(hold(url, float(seconds)))))


if __name__ == "__main__":
    main()
