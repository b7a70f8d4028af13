"""What is known of an uplink: what the card is to remember, what it wants, and its account. Values only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.reading import LEDGER

FOR_ALL = ("", LEDGER)
"""Streams that every uplink wants: a program's messages, and the ledger's entries."""


@dataclass(slots=True)
class Account:
    """What became of the readings of one uplink: taken in = delivered + waiting + lost."""

    delivered: int = 0
    waiting: int = 0
    lost: int = 0
    quarantined: int = 0  # of those lost, how many are set aside and could be tried again


@dataclass(frozen=True, slots=True)
class Claim:
    """What the card knows of an uplink."""

    acked: list[tuple[int, int]]  # acknowledged, or lost, or set aside
    released: list[tuple[int, int]]  # QoS 2: a broker has them, and only the end of the exchange is missing
    session: dict[str, Any]
    devices: list[str] | None = None  # whose readings it wants; None: of all


def choice(claim: Claim, name: str, devices: Mapping[str, Collection[str]] | None) -> Claim:
    """Return the claim of a configured uplink, with what it wants now: `devices` has those that do not want all."""
    return replace(claim, devices=sorted(devices[name]) if devices and name in devices else None)


def is_for(stream: str, devices: Collection[str] | None) -> bool:
    """Say whether readings of a stream are for an uplink that wants those of `devices`; None: of all."""
    return devices is None or stream in devices or stream in FOR_ALL
