"""`outbox status`: how much waits, how much room there is, and how long it will last."""

from __future__ import annotations

import json
import time
from typing import Any

from gateway.cli.outbox.place import Place
from gateway.cli.tables import lasting, moment, number, plain, show, size
from gateway.outbox.card.room import allowed
from gateway.outbox.inspection import Inspection, Standing, Stored

USUAL = 15.0
"""Bytes that a reading takes on the card, where nothing lies there to tell: measured with JSON of 120 bytes."""
ENOUGH = 1000
"""Readings on the card from which on what they take can be taken for the rule."""
UNKNOWN = Standing(waiting=0, oldest=None, quarantined=0, lost=0)


def run(place: Place, *, as_json: bool) -> None:
    """Print the status."""
    service = place.service()
    with Inspection(place.path) as card:
        standing = {uplink: card.standing(uplink) for uplink in card.uplinks()}
        stored, in_use = card.stored(), card.in_use
    told = _told(place, service, standing, stored, running=in_use)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        _show(told)


def _told(
    place: Place, service: dict[str, Any] | None, standing: dict[str, Standing], stored: Stored, *, running: bool
) -> dict[str, Any]:
    """Put together what the card and the service say. The service knows what is only in memory."""
    figures = service or {}
    live = figures.get("uplinks", {})
    standing = {**dict.fromkeys(live, UNKNOWN), **standing}  # an uplink that has everything need not be on the card
    uplinks = {
        uplink: {
            "waiting": live[uplink]["waiting"] if uplink in live else one.waiting,
            "oldest": None if one.oldest is None else round(one.oldest * 1000),
            "quarantined": one.quarantined,
            "lost": one.lost,
            **({"broker": live[uplink]["broker"]} if uplink in live else {}),
        }
        for uplink, one in standing.items()
    }
    max_size = place.max_size if place.max_size is not None else figures.get("max_size")
    keep_free = place.keep_free if place.keep_free is not None else figures.get("keep_free")
    limit = None
    if max_size is not None and keep_free is not None:
        limit = allowed(max_size, stored.used, stored.free, keep_free)
    rate = figures.get("rate") or stored.rate or None
    each = stored.payload / stored.readings if stored.readings >= ENOUGH else USUAL
    return {
        "path": str(place.path),
        "running": running,
        "uplinks": uplinks,
        "readings": stored.readings,
        "used": stored.used,
        "limit": limit,
        "free": stored.free,
        "rate": rate,
        "holds": None if limit is None or rate is None else limit / (rate * each),
        "lasts": None if limit is None or rate is None else max(0, limit - stored.used) / (rate * each),
        "wear": figures.get("outbox", {}).get("wear"),
    }


def _show(told: dict[str, Any]) -> None:
    console = plain()
    console.print(f"{told['path']}, {'in use by the service' if told['running'] else 'in use by nobody'}")
    now = time.time()
    rows = []
    for name, one in told["uplinks"].items():
        oldest = one["oldest"] and one["oldest"] / 1000
        since = f"{moment(oldest)}, {lasting(now - oldest)} ago" if oldest else ""
        over = one.get("broker") or ("no broker" if "broker" in one else "")
        rows.append((name, one["waiting"], since, one["quarantined"], one["lost"], over))
    if rows:
        show(("uplink", "waiting", "oldest", "set aside", "lost", "broker"), rows, console)
    limit = "" if told["limit"] is None else f" of {size(told['limit'])}"
    console.print(f"{size(told['used'])}{limit} used; {size(told['free'])} are free on the card")
    if told["holds"] is not None:
        pace = f"{told['rate']:.3g} readings a second"
        console.print(
            f"At this rate ({pace}) the outbox holds {lasting(told['holds'])}, and {lasting(told['lasts'])} more."
        )
    if told["wear"] is not None:
        console.print(_wear(told["wear"]))


def _wear(told: dict[str, Any]) -> str:
    """Say what the service has written to the card since it started."""
    if told["bytes"] is None:
        return "How much is written to the card is not known: this kernel does not count it."
    causes = ", ".join(f"{cause} {size(count)}" for cause, count in told["bytes"].items() if count)
    words = f"Written to the card in {lasting(told['seconds'])}: {size(sum(told['bytes'].values()))} ({causes})"
    if told["per_day"] is not None:
        words += f"; {size(told['per_day'])} a day at this rate"
    if told["per_reading"] is not None:
        words += f"; {told['per_reading']:.3g} bytes for each of {number(told['readings'])} readings that went there"
    return f"{words}."
