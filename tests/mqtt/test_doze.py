"""When acknowledgements are read together, and when at once."""

from __future__ import annotations

import asyncio

from gateway.mqtt.doze import BREATH, FEW, LITTLE, Doze
from gateway.mqtt.gate import Gate


def made(lag: float = 0.0, window: int = 1000) -> tuple[Doze, Gate]:
    gate = Gate()
    doze = Doze(lag, gate)
    doze.open(window)
    return doze, gate


async def test_with_few_in_flight_the_answers_wait_for_the_lag() -> None:
    """A calm link wakes up once for several acknowledgements, and at once when more is sent."""
    doze, gate = made(lag=60.0)
    doze.sent(1)
    assert gate.is_shut("doze")
    doze.sent(FEW + 1)
    assert not gate.is_shut("doze")


async def test_a_flood_is_answered_after_a_breath() -> None:
    """A little came while much is in flight: more follows at once, and is read together with it."""
    doze, gate = made()
    doze.came(LITTLE - 1, 251)
    assert gate.is_shut("breath")
    doze.sent(300)  # sending on does not end it
    assert gate.is_shut("breath")
    loop, passed = asyncio.get_running_loop(), asyncio.Event()
    loop.call_later(2 * BREATH, passed.set)
    await passed.wait()
    assert not gate.is_shut("breath")


async def test_nothing_waits_where_waiting_would_cost_throughput_or_time() -> None:
    """Neither when much was read, nor when little is in flight, nor before the link is open, nor after its end."""
    doze, gate = made()
    doze.came(LITTLE, 1000)
    doze.came(4, 250)
    small, small_gate = made(window=20)
    small.came(4, 20)
    unopened = Doze(0.0, gate)
    unopened.came(4, 1000)
    doze.close()
    doze.came(4, 1000)
    assert not gate.is_shut("breath")
    assert not small_gate.is_shut("breath")


async def test_somebody_who_waits_for_an_answer_ends_every_pause() -> None:
    """Closing, pinging and draining want the answers now."""
    doze, gate = made(lag=60.0)
    doze.sent(1)
    doze.came(4, 1000)
    doze.end()
    assert not gate.is_shut("doze")
    assert not gate.is_shut("breath")
