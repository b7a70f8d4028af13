"""Last will: what the broker says for a client that vanished, and never for one that left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway import Client, Publication, Will
from tests.interop.peer import Peer
from tests.interop.ways import Way
from tests.matrix.quick import Told, payloads, quick, until
from tests.scripted_broker import ScriptedBroker
from tests.system.harness import Mosquitto

ROOT = Path(__file__).resolve().parents[2]
WILL = Will("status", b"\xff\0gone", qos=1, retain=True)
BIRTH = Publication("status", b"here", 1, True)

VANISHING = """
import asyncio, os, signal, sys
from gateway import Client, Will

async def main():
    will = Will("status", b"\\xff\\0gone", int(sys.argv[3]), True)
    async with Client(sys.argv[1], protocol=sys.argv[2], will=will) as client:
        await client.connected(10)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_a_killed_client_has_its_will(mosquitto: Mosquitto, protocol: str, qos: int) -> None:
    """Topic, binary payload, QoS and retain are said by a real broker after SIGKILL, in every version."""
    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("status", 2)
        subprocess.run([sys.executable, "-c", VANISHING, mosquitto.url, protocol, str(qos)], cwd=ROOT, check=False)
        heard = await peer.next()
        assert (heard.topic, heard.payload, heard.qos) == ("status", b"\xff\0gone", qos)
    async with Peer(Way("mqtt", mosquitto.port)) as late:
        await late.subscribe("status", 2)
        assert (await late.next()).payload == b"\xff\0gone"  # retained


@pytest.mark.system
async def test_a_client_that_leaves_has_no_will_at_a_real_broker(mosquitto: Mosquitto) -> None:
    """After an orderly stop, what is retained is the last thing that the client itself has said."""
    async with Client(mosquitto.url, will=WILL, birth=BIRTH) as client:
        await client.connected(10)
        await (await client.publish("end", b"1"))
    async with Peer(Way("mqtt", mosquitto.port)) as peer:
        await peer.subscribe("status", 1)
        assert (await peer.next()).payload == b"here"


async def test_it_is_armed_on_every_link_and_at_every_broker(scripted: ScriptedBroker) -> None:
    """Reconnecting arms it again, and so does failing over, with QoS, retain, delay and properties."""
    will = Will("status", b"gone", 2, True, {"will_delay_interval": 7, "content_type": "text/plain"})
    async with ScriptedBroker() as backup:
        async with quick(scripted, backup, will=will, protocol="5") as client:
            await client.connected(5)
            scripted.drop()
            await scripted.until(lambda: len(scripted.connects) == 2)
            await client.connected(5)
            await scripted.stop()
            await backup.until(lambda: bool(backup.connects))
        assert [connect.will for connect in scripted.connects + backup.connects] == [will] * 3
        assert scripted.wills == [will] * 2
        assert backup.wills == []


async def test_no_will_when_a_better_broker_is_back(scripted: ScriptedBroker) -> None:
    """Failback leaves the lesser broker in order: nobody there is told that the client has vanished."""
    await scripted.stop()
    async with ScriptedBroker() as backup:
        async with quick(scripted, backup, will=WILL, failback=0.05) as client:
            await client.connected(5)
            await scripted.start()
            await until(lambda: client.status.broker == scripted.url)
            await backup.until(lambda: not backup.clients)
        assert backup.wills == scripted.wills == []
        assert len(backup.disconnects) == 1


async def test_a_birth_message_overrides_a_will_that_raced(scripted: ScriptedBroker) -> None:
    """The broker may say the will of the dead link after the new one is there: what is said last is "here"."""
    scripted.deliver = True
    told = Told()
    async with quick(scripted, will=WILL, birth=BIRTH, **told.calls):
        await scripted.until(lambda: payloads(scripted, topic="status") == [b"here"])
        scripted.drop()
        await until(lambda: len(told.connected) == 2)
        await scripted.until(lambda: payloads(scripted, topic="status").count(b"here") == 2)
        assert scripted.wills
        assert scripted.retained["status"].payload == b"here"


async def test_both_can_be_left_out(scripted: ScriptedBroker) -> None:
    """A client that is told nothing says nothing of itself."""
    async with quick(scripted) as client:
        await (await client.publish("t", b"1"))
    assert scripted.connects[0].will is None
    assert len(scripted.published) == 1
