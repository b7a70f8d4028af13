"""One attempt at a broker: with the protocol it is known to speak, fresh credentials, and the session it may have."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.mqtt import ConnectError, Options
from gateway.outbox import SPOILED, Feed
from gateway.uplink.broker import Broker
from gateway.uplink.link import Link
from gateway.uplink.profiles import check_options, clamp, fitted_will, profile

SESSION = 7 * 86400
"""Seconds for which an MQTT 5 broker keeps a session, unless the options say otherwise."""


class Attempts:
    """What was learned about each broker, and what to ask of it at the next connect."""

    def __init__(
        self, brokers: Sequence[Broker], feed: Feed, *, persistent: bool, shared: bool, say: Callable[[str], None]
    ) -> None:
        """`persistent`: ask for a session that outlives the link; `shared`: all brokers keep the same one."""
        self._brokers = brokers
        self._feed = feed
        self._persistent = persistent
        self._shared = shared
        self._say = say
        self.agreed: dict[int, str] = {}  # the protocol that a broker answered to
        self._mute: set[int] = set()  # brokers that did not answer at all: an old one may not understand MQTT 5

    async def open(self, link: Link) -> None:
        """Connect. Raises ConnectError."""
        index, broker = link.index, link.broker
        options = await self._with_credentials(broker)
        automatic = options.protocol == "auto"
        older = automatic and index in self._mute
        self._mute.discard(index)
        if automatic and (known := "3.1.1" if older else self.agreed.get(index)):
            options = replace(options, protocol=known)
        options = self._fitted(broker, options)
        received: set[int] | None = None
        if self._persistent:
            options, received = self._with_session(index, options)
        try:
            await link.open(options, received)
        except ConnectError as error:
            self.agreed.pop(index, None)
            if automatic and not older and error.kind == "silent":
                self._mute.add(index)
            raise
        except ValueError as error:
            raise ConnectError(str(error), kind="refused") from error
        if not older:  # it may only have been slow: MQTT 5 is asked for again at the next connect
            self.agreed[index] = link.connection.protocol

    def session(self, link: Link) -> dict[str, Any]:
        """Return what the outbox should remember about this link's session."""
        owner = self._owner(link.index)
        if not link.connection.session_present:
            return {"owner": owner, "received": []}
        return {**self._feed.session, "owner": owner, "received": sorted(link.connection.received_ids)}

    def _owner(self, index: int) -> str:
        broker = self._brokers[index]
        return broker.options.client_id if self._shared else f"{broker.options.client_id} at {broker.address}"

    def _with_session(self, index: int, options: Options) -> tuple[Options, set[int]]:
        session = self._feed.session
        owner = session.get("owner")
        # Another broker has carried in between: what this one remembers has arrived there, or will. Or something was
        # given up whose packet identifier the broker may hold for ever.
        clean = options.clean if owner is None else owner != self._owner(index) or bool(session.get(SPOILED))
        expiry = options.session_expiry or SESSION
        received = set() if clean else set(session.get("received", ()))
        return replace(options, clean=clean, session_expiry=expiry, numbered=True, hold_received=True), received

    async def _with_credentials(self, broker: Broker) -> Options:
        if broker.credentials is None:
            return broker.options
        try:
            async with asyncio.timeout(broker.options.connect_timeout):
                found = broker.credentials()
                if inspect.isawaitable(found):
                    found = await found
        except Exception as error:
            raise ConnectError(f"no credentials: {str(error) or type(error).__name__}", kind="refused") from error
        return replace(broker.options, username=found.username, password=found.password)

    def _fitted(self, broker: Broker, options: Options) -> Options:
        """Return the options as this broker takes them; what is different is said once."""
        known = profile(broker.profile)
        keep_alive, window = clamp(known, keep_alive=options.keep_alive, window=options.window)
        if keep_alive != options.keep_alive:
            self._say(f"keep_alive {options.keep_alive:g} s is {keep_alive:g} s for {known.who}")
        if window != options.window:
            self._say(f"window {options.window} is {window} for {known.who}")
        will = options.will
        if will is not None:
            will, remark = fitted_will(known, will)
            if remark is not None:
                self._say(remark)
        options = replace(options, keep_alive=keep_alive, window=window, will=will)
        faults = check_options(known, client_id=options.client_id, protocol=options.protocol, username=options.username)
        if faults:
            raise ConnectError("; ".join(faults), kind="refused")
        return options
