"""Publishers to be killed: a process that has imported everything forks one on each line of its standard input.

A line is: store, URL, protocol, first number, separated by blanks. Each publisher appends what it does to the file
`log` beside its store: `i 17` before it hands message 17 over, `s 17` once it was told that 17 is stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque

from gateway import Client, Delivery

BURST = 10
OPEN = 100  # messages without an acknowledgement, at most: kills are to fall between two packets, not into a backlog


async def publish(store: str, url: str, protocol: str, first: int) -> None:
    """Publish numbers from `first` on at QoS 2, in bursts, until killed."""
    log = os.open(f"{store}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with Client(url, store=store, client_id="killed", protocol=protocol, session_expiry=3600) as client:
        open_ones: deque[Delivery] = deque()
        while True:
            numbers = range(first, first + BURST)
            os.write(log, "".join(f"i {number}\n" for number in numbers).encode())
            for number in numbers:
                open_ones.append(await client.publish("numbers", b"%d" % number, qos=2, stored=number == numbers[-1]))
            os.write(log, "".join(f"s {number}\n" for number in numbers).encode())
            first += BURST
            while len(open_ones) > OPEN:
                await open_ones.popleft()


def main() -> None:
    """Fork one publisher for each line, and print its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    for line in sys.stdin:
        store, url, protocol, first = line.split()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asyncio.run(publish(store, url, protocol, int(first)))
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
