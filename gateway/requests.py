"""What somebody may have done to an outbox from outside: by the service while it runs, and else directly."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from gateway.announce import Announcer
from gateway.control import Command, Refused, ask, place
from gateway.outbox import Outbox
from gateway.outbox.inspection import Inspection

NO_LIMIT = 1 << 50
"""Bytes that the outbox may take while it is only looked after: nothing is given up that nobody has asked for."""


def changes(outbox: Outbox) -> Mapping[str, Command]:
    """Return the requests that change an outbox, by name."""

    async def retry(ids: Sequence[int] | None) -> int:
        return await outbox.retry(ids)

    async def drop(ids: Sequence[int] | None) -> int:
        return await outbox.discard(ids)

    async def trim(age: float, uplink: str | None) -> int:
        count = await outbox.trim(time.time() - age, uplink)
        await outbox.flush()
        return count

    async def forget(uplink: str) -> int:
        count = await outbox.forget(uplink)
        await outbox.flush()
        return count

    return {"retry": retry, "drop": drop, "trim": trim, "forget": forget}


def have_done(path: Path, command: str, **arguments: Any) -> Any:
    """Have one of the `changes` made, by the service that has the outbox open or, if there is none, here.

    Raises Refused, OutboxError (OutboxInUse if whoever has it open does not listen), and PermissionError for the outbox
    of another user.
    """
    try:
        return ask(place(path), command, **arguments)
    except (FileNotFoundError, ConnectionRefusedError):
        with Inspection(path) as card:
            uplinks = card.uplinks()
        _become_owner(path)
        return asyncio.run(_directly(path, uplinks, command, arguments))


async def _directly(path: Path, uplinks: Sequence[str], command: str, arguments: Mapping[str, Any]) -> Any:
    if not uplinks:
        return 0
    logger = structlog.get_logger()
    if command == "forget":
        uplinks = [name for name in uplinks if name != arguments["uplink"]]
    outbox = Outbox(path, uplinks, commit_interval=0.0, max_size=NO_LIMIT, logger=logger)
    async with outbox, Announcer(outbox):
        try:
            return await changes(outbox)[command](**arguments)
        except ValueError as error:
            raise Refused(str(error)) from None


def _become_owner(path: Path) -> None:
    """Go on as whom the outbox belongs to: files that root makes beside it would keep the service from starting."""
    owner = path.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
