"""What is in an outbox, as tables or as JSON: readings, the ledger, the quarantine."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from gateway.cli.outbox.place import Place, name
from gateway.cli.tables import moment, plain, show
from gateway.outbox import Loss
from gateway.outbox.inspection import Inspection, Seen, wall
from gateway.reading import Publication, Reading


def readings(place: Place, uplink: str | None, count: int, *, as_json: bool) -> None:
    """Show the next readings."""
    with Inspection(place.path) as card:
        if uplink is not None:
            card.claim(uplink)  # it is known, or this ends here
        found = list(islice(card.readings(uplink), count))
    if as_json:
        _print_lines(as_dict(seen) for seen in found)
        return
    rows = [(moment(seen.time), *_identity(seen.reading), words(seen.reading)) for seen in found]
    _show_or(("measured", "stream", "epoch", "seq", "values"), rows, "Nothing waits on the card.")


def ledger(place: Place, uplink: str | None, *, as_json: bool) -> None:
    """Show the ledger."""
    with Inspection(place.path) as card:
        losses = [loss for loss in card.ledger() if uplink in (None, loss.uplink)]
    if as_json:
        print(json.dumps([_loss_as_dict(loss) for loss in losses], ensure_ascii=False))
        return
    rows = [
        (
            loss.uplink,
            loss.stream,
            str(loss.epoch),
            f"{loss.first_seq}-{loss.last_seq}" if loss.first_seq else "?",
            loss.count if loss.count else "?",
            moment(loss.first_time),
            moment(loss.last_time),
            loss.reason,
        )
        for loss in losses
    ]
    _show_or(("uplink", "stream", "epoch", "seq", "count", "from", "to", "reason"), rows, "Nothing was lost.")


def quarantine(place: Place, uplink: str | None, *, as_json: bool) -> None:
    """Show what is set aside."""
    with Inspection(place.path) as card:
        offsets = card.offsets()
        entries = [entry for entry in card.quarantined() if uplink in (None, entry.uplink)]
    if as_json:
        told = [
            {
                "id": name(entry.reading.id),
                "uplink": entry.uplink,
                "reason": entry.reason,
                "set_aside": round(entry.time * 1000),
                **as_dict(Seen(entry.reading, wall(entry.reading, offsets))),
            }
            for entry in entries
        ]
        print(json.dumps(told, ensure_ascii=False))
        return
    rows = [
        (
            name(entry.reading.id),
            entry.uplink,
            *_identity(entry.reading),
            moment(entry.time),
            entry.reason,
            words(entry.reading),
        )
        for entry in entries
    ]
    columns = ("id", "uplink", "stream", "epoch", "seq", "set aside", "reason", "values")
    _show_or(columns, rows, "Nothing is set aside.")


def as_dict(seen: Seen) -> dict[str, Any]:
    """Return a reading as JSON has it; `ts` is UTC milliseconds, bytes that are no UTF-8 are in base64."""
    reading = seen.reading
    told: dict[str, Any] = {
        "stream": reading.stream,
        "ts": round(seen.time * 1000),
        "seq": reading.seq,
        "epoch": reading.epoch,
    }
    values = reading.values
    if not isinstance(values, Publication):
        return {**told, "values": values}
    told |= {"topic": values.topic, "qos": values.qos, "retain": values.retain}
    try:
        return {**told, "payload": values.payload.decode()}
    except UnicodeDecodeError:
        return {**told, "payload_base64": b64encode(values.payload).decode()}


def words(reading: Reading) -> str:
    """Return a reading's values in one line."""
    values = reading.values
    if isinstance(values, Publication):
        return f"{values.topic}: {values.payload.decode(errors='replace')}"
    return " ".join(f"{key}={_value(value)}" for key, value in values.items())


def _identity(reading: Reading) -> tuple[str, str, int]:
    return reading.stream, str(reading.epoch), reading.seq


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


def _loss_as_dict(loss: Loss) -> Mapping[str, Any]:
    times = {"first_time": round(loss.first_time * 1000), "last_time": round(loss.last_time * 1000)}
    keys = ("uplink", "stream", "epoch", "first_seq", "last_seq", "count", "reason")
    return {**{key: getattr(loss, key) for key in keys}, **times}


def _print_lines(objects: Iterable[Mapping[str, Any]]) -> None:
    for one in objects:
        print(json.dumps(one, ensure_ascii=False))


def _show_or(columns: tuple[str, ...], rows: Sequence[Sequence[str | int]], nothing: str) -> None:
    if rows:
        show(columns, rows)
    else:
        plain().print(nothing)
