"""From what a client was told to the brokers of its uplink."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.client.options import Broker, ClientOptions
from gateway.mqtt import Network, Options
from gateway.uplink import Broker as Endpoint

SHORT = 23
"""Characters of a client id that MQTT 3.1 can take."""
ENCRYPTED = ("mqtts", "wss")


def endpoints(said: ClientOptions, trace: Callable[[str, str], None] | None = None) -> list[Endpoint]:
    """Return the brokers in order of preference. Raises TypeError or ValueError, naming what does not go together."""
    brokers = _brokers(said)
    if said.tls is not None and not any(broker.address.scheme in ENCRYPTED for broker in brokers):
        raise ValueError("tls is for brokers behind mqtts:// or wss://, and there is none")
    identity = said.client_id if said.client_id is not None else client_id(said.store)
    return [_endpoint(said, broker, identity, trace) for broker in brokers]


def persistent(said: ClientOptions) -> bool:
    """Return whether the broker is to keep the session of this client while there is no link."""
    return said.store is not None if said.clean_start is None else not said.clean_start


def client_id(store: str | os.PathLike[str] | None) -> str:
    """Return an identifier that is the same in every run on this machine with this store, or a new one without.

    20 letters and digits: what every broker has to accept (MQTT 3.1.1, section 3.1.3.1).
    """
    if store is None:
        return "gw" + secrets.token_hex(9)
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    parts = (machine, str(Path(store).resolve()))
    return "gw" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:18]


def _brokers(said: ClientOptions) -> list[Broker]:
    given = said.brokers
    several = [given] if isinstance(given, (str, Broker)) else list(given)
    if not several:
        raise ValueError("brokers is empty; name at least one, such as 'mqtt://localhost:1883'")
    brokers = []
    for one in several:
        if not isinstance(one, (str, Broker)):
            raise TypeError(f"brokers must be URLs or Broker objects, and one is {type(one).__name__}")
        try:
            brokers.append(Broker(one) if isinstance(one, str) else one)
        except ValueError as error:
            raise ValueError(f"brokers: {error}") from None
    addresses = [broker.address for broker in brokers]
    for address in addresses:
        if addresses.count(address) > 1:
            raise ValueError(f"brokers: {address} is there twice")
    return brokers


def _endpoint(said: ClientOptions, broker: Broker, identity: str, trace: Callable[[str, str], None] | None) -> Endpoint:
    # User name and password go together: a broker that has one of its own gets neither from the client.
    own = broker.username is not None or broker.password is not None or broker.credentials is not None
    who = broker if own else said
    password = who.password.encode() if isinstance(who.password, str) else who.password
    protocol = broker.protocol or said.protocol
    if password is not None and who.username is None and protocol in ("3.1", "3.1.1"):
        raise ValueError(f"password needs a username beside it: MQTT {protocol} cannot send it alone")
    name = identity if broker.client_id is None else broker.client_id
    if protocol == "3.1" and not 1 <= len(name) <= SHORT:
        raise ValueError(f"client_id must have 1 to {SHORT} characters for MQTT 3.1, not {len(name)}: {name!r}")
    keeps = persistent(said)
    if not name and keeps:
        raise ValueError("client_id must not be empty when the broker is to keep the session (clean_start=False)")
    tls = broker.tls or said.tls if broker.address.scheme in ENCRYPTED else None
    if broker.tls is not None and tls is None:
        raise ValueError(f"tls is for brokers behind mqtts:// or wss://, and this one is {broker.address}")
    options = Options(
        client_id=name,
        username=who.username,
        password=password,
        keep_alive=said.keep_alive,
        clean=not keeps,
        session_expiry=said.session_expiry or 0,
        protocol=protocol,
        will=said.will,
        window=said.window,
        connect_timeout=said.connect_timeout,
        ack_timeout=said.ack_timeout,
        maximum_packet_size=said.maximum_packet_size,
        receive_maximum=said.receive_maximum,
        topic_aliases=said.topic_aliases,
        topic_alias_maximum=said.topic_alias_maximum,
        request_response_information=said.request_response_information,
        user_properties=tuple((name, text) for name, text in said.user_properties),
        authentication=said.authentication,
        trace=trace,
        tls=tls,
        network=broker.network or said.network or Network(),
    )
    return Endpoint(broker.address, options, broker.profile or said.profile, who.credentials)
