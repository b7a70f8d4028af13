"""Ports for brokers that come, go and come back: no two of the processes that test at the same time share one."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

BLOCK = 100
"""How many ports one process has. It goes round in them, long after what had the same one before is over."""


def _blocks() -> Iterator[range]:
    """Return blocks right below the range of ports that the kernel hands out by itself.

    So no outgoing connection of this machine can take a port while its broker is down; and right below, because
    further down the self-test looks for its own.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return (range(first, first + BLOCK) for first in range(end - 2_000, end, BLOCK))


def _claim() -> tuple[socket.socket, Iterator[int]]:
    """Return a block that nobody else has, and its lock: a name that ends with this process."""
    for block in _blocks():
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0sensor-gateway-tests-{block.start}")
        except OSError:
            lock.close()
        else:
            return lock, itertools.cycle(block)
    raise RuntimeError("every block of ports is taken by some process that tests")


# Claimed when this is imported: a lock that a test opened would count as left behind by it.
_LOCK, _PORTS = _claim()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now, and that nobody else who tests will use."""
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every broker does
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError  # the ports go round
