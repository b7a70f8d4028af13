"""Gateways with a bug planted in them, which the self-test has to find: the only place where our own code is patched.

Each runs in a process of its own, as `gateway.cli.selftest.subject:main` does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.cli.selftest.subject import main
from gateway.devices import RunningDevice
from gateway.outbox import Feed
from gateway.outbox.card.store import Store

EVERY = 20


def _patch(owner: type, name: str, around: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, lambda self, *rest, **named: around(original, self, *rest, **named))


def drops(config: str, levers: str, cards: bool) -> int:
    """Lose one reading in twenty before it is taken in."""
    seen: dict[str, int] = {}

    def take_in(original: Callable[..., Any], device: RunningDevice, *rest: Any) -> Any:
        seen[device.name] = seen.get(device.name, 0) + 1
        return None if seen[device.name] % EVERY == 0 else original(device, *rest)

    _patch(RunningDevice, "take_in", take_in)
    return main(config, levers, cards)


def hurries(config: str, levers: str, cards: bool) -> int:
    """Take what is sent for acknowledged, without waiting for the broker."""

    def take(original: Callable[..., Any], feed: Feed, *rest: Any, **named: Any) -> Any:
        readings = original(feed, *rest, **named)
        if readings:
            feed.acknowledged([reading.id for reading in readings])
        return readings

    _patch(Feed, "take", take)
    return main(config, levers, cards)


def forgets(config: str, levers: str, cards: bool) -> int:
    """Say of every second block that it is on the card, and not write it."""
    blocks = 0

    def commit(original: Callable[..., Any], store: Store, wanted: Any, *rest: Any) -> Any:
        nonlocal blocks
        blocks += bool(wanted.readings)
        return original(store, replace(wanted, readings=[]) if wanted.readings and blocks % 2 else wanted, *rest)

    _patch(Store, "commit", commit)
    return main(config, levers, cards)


def dates(config: str, levers: str, cards: bool) -> int:
    """Date each reading two seconds back."""
    put = RunningDevice.__init__

    def begin(original: Callable[..., Any], device: RunningDevice, *rest: Any, **named: Any) -> None:
        put(device, *rest, **named)
        inner = device._put
        device._put = lambda name, values, given, *age: inner(
            name, values, time.time() - 2.0 if given is None else given, *age
        )

    _patch(RunningDevice, "__init__", begin)
    return main(config, levers, cards)


def stillborn(config: str, levers: str, cards: bool) -> int:
    """Say what is wrong, and end."""
    print("no adapter is called that", file=sys.stderr)
    return 78


def weary(config: str, levers: str, cards: bool) -> int:
    """Run once, and never again."""
    outbox = Path(config).with_name("outbox.db")
    return stillborn(config, levers, cards) if outbox.exists() else main(config, levers, cards)
