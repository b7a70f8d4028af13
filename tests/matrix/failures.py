"""Every way in which a broker can fail, with the bound for each, and how long it took until the next one carries.

`python -m tests.matrix.failures` prints the table of docs/explanation/high-availability.md.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from gateway import Client, Outcome
from gateway.mqtt.properties import Properties
from tests.scripted_broker import ScriptedBroker

TIMEOUTS = {"connect_timeout": 1.0, "ack_timeout": 1.5, "keep_alive": 2.0}
Break = Callable[[ScriptedBroker], Awaitable[None]]


class Failure(NamedTuple):
    """One way to fail. `bound` names the options whose sum is the longest time until the next broker is asked."""

    what: str
    do: Break
    bound: tuple[str, ...] = ()
    url: str | None = None  # instead of the broker's
    idle: bool = False  # whether nothing is published when it happens

    @property
    def seconds(self) -> float:
        """The bound, with these timeouts."""
        return sum(TIMEOUTS[option] for option in self.bound)

    def __str__(self) -> str:
        return self.what


def knob(name: str, value: Any) -> Break:
    """Return what turns one knob of the broker."""

    async def turn(broker: ScriptedBroker) -> None:
        setattr(broker, name, value)

    return turn


async def stop(broker: ScriptedBroker) -> None:
    """End it."""
    await broker.stop()


async def freeze(broker: ScriptedBroker) -> None:
    """Stop it from reading and writing."""
    broker.freeze()


def goodbye(reason: int) -> Break:
    """Return what says DISCONNECT, and refuses from then on."""

    async def say(broker: ScriptedBroker) -> None:
        broker.refuse = reason
        broker.disconnect(reason)

    return say


def refusing(reason: int) -> Break:
    """Return what refuses every message."""

    async def refuse(broker: ScriptedBroker) -> None:
        broker.puback_reason = lambda packet: reason
        broker.puback_properties = Properties()

    return refuse


async def nothing(broker: ScriptedBroker) -> None:
    """Do nothing: it is the address that is wrong."""


AT_THE_START = [
    Failure("absent: connection refused", stop),
    Failure("black hole: nobody answers", nothing, ("connect_timeout",), "black hole"),
    Failure("the name is not known", nothing, (), "mqtt://broker.invalid:1883"),
    Failure("the name server is silent", nothing, ("connect_timeout",), "mqtt://silent.invalid:1883"),
    Failure("mute after accept", knob("mute_after", "accept"), ("connect_timeout",)),
    Failure("mute after CONNECT", knob("mute_after", "connect"), ("connect_timeout",)),
    Failure("mute after CONNACK", knob("stop_acks", True), ("ack_timeout",)),
    Failure("closes instead of CONNACK", knob("close_on_connect", True)),
    Failure("CONNACK: not authorised (0x87)", knob("refuse", 0x87)),
    Failure("CONNACK: server unavailable (0x88)", knob("refuse", 0x88)),
    Failure("CONNACK: server busy (0x89)", knob("refuse", 0x89)),
    Failure("CONNACK: use another server (0x9C)", knob("refuse", 0x9C)),
    Failure("CONNACK: server moved (0x9D)", knob("refuse", 0x9D)),
]
IN_SERVICE = [
    Failure("killed: the connection is closed", stop),
    Failure("frozen, while messages flow", freeze, ("ack_timeout",)),
    Failure("frozen, while nothing flows", freeze, ("keep_alive", "ack_timeout"), idle=True),
    Failure("acknowledgements stop, PINGRESP continues", knob("stop_acks", True), ("ack_timeout",)),
    Failure("DISCONNECT: server busy (0x89)", goodbye(0x89)),
    Failure("DISCONNECT: server shutting down (0x8B)", goodbye(0x8B)),
    Failure("DISCONNECT: use another server (0x9C)", goodbye(0x9C)),
    Failure("DISCONNECT: server moved (0x9D)", goodbye(0x9D)),
    Failure("PUBACK: not authorised (0x87)", refusing(0x87)),
    Failure("PUBACK: quota exceeded (0x97)", refusing(0x97), ("ack_timeout",)),
]


@contextmanager
def black_hole() -> Iterator[str]:
    """Give the URL of a listener whose queue is full: it answers nobody, as a host that drops packets."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (one, other):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield f"mqtt://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def silent_name_server() -> Iterator[None]:
    """Have the system's resolver wait for ever when it is asked for silent.invalid."""
    ask, end = socket.getaddrinfo, threading.Event()

    def asked(host: str, *arguments: Any, flags: int = 0, **more: Any) -> list[Any]:
        if host == "silent.invalid" and not flags & socket.AI_NUMERICHOST:
            end.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "ended")
        return ask(host, *arguments, flags=flags, **more)

    socket.getaddrinfo = asked
    try:
        yield
    finally:
        socket.getaddrinfo = ask
        end.set()


async def took(failure: Failure, mode: str = "hunt", **options: Any) -> float:
    """Return the seconds from the failure until the next broker carries. Nothing may be missing then.

    Within `silent_name_server`.
    """
    loop = asyncio.get_running_loop()
    in_service = failure in IN_SERVICE
    async with ScriptedBroker() as first, ScriptedBroker() as next_one:
        with black_hole() as hole:
            url = {None: first.url, "black hole": hole}.get(failure.url, failure.url)
            if not in_service:
                await failure.do(first)
            began = loop.time()
            client = Client(
                [url, next_one.url],
                mode=mode,
                failback=None,
                protocol="5",
                **{"reconnect_min": 0.05, "reconnect_max": 0.2, **TIMEOUTS, **options},
            )
            async with client:
                deliveries = [await client.publish("t", b"%d" % number) for number in range(10)]
                if in_service:
                    for delivery in deliveries:
                        await delivery
                    began = loop.time()
                    if failure.idle:  # the silence begins with the last message
                        await (await client.publish("t", b"9"))
                    await failure.do(first)
                if failure.idle:
                    await next_one.until(lambda: bool(next_one.connects), 20)
                deliveries += [await client.publish("t", b"%d" % number) for number in range(10, 20)]
                await next_one.wait_published(1, 20)
                seconds = loop.time() - began
                async with asyncio.timeout(10):
                    assert {await delivery for delivery in deliveries} == {Outcome.ACKNOWLEDGED}
                assert client.status.broker == next_one.url
                state = client.status.brokers[0]
                assert state.state == "away", state
                assert state.reason
            assert {int(payload) for _, payload, _, _ in next_one.published} >= set(range(10 if in_service else 0, 20))
            first.thaw()
    return seconds


def bound_in_words(failure: Failure) -> str:
    """Return the bound as the documentation names it."""
    return " + ".join(f"`{option}`" for option in failure.bound) or "at once"


async def table() -> None:
    """Print what is promised and what was measured."""
    print(
        f"| {'what fails':45} | {'promised':30} | {'hunt':>7} | {'equal':>7} |\n"
        f"|{'-' * 47}|{'-' * 32}|--------:|--------:|"
    )
    for failure in AT_THE_START + IN_SERVICE:
        hunt, equal = [await took(failure, mode) for mode in ("hunt", "equal")]
        print(f"| {failure.what:45} | {bound_in_words(failure):30} | {hunt:5.2f} s | {equal:5.2f} s |", flush=True)


if __name__ == "__main__":
    logging.disable()  # of what is wrong with each broker: that is what this is about
    print(", ".join(f"{name} = {value:g} s" for name, value in TIMEOUTS.items()) + "\n")
    with silent_name_server():
        asyncio.run(table())
