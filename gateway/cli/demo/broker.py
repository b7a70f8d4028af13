"""One embedded MQTT broker in a process of its own: `python -m gateway.cli.demo.broker PORT` reports what arrives.

It is a process, so that the demo can kill it as a power cut would. It counts inside the broker and not as a
subscriber: each PUBLISH is reported on stdout before its PUBACK is written, so that no reading can be acknowledged and
yet be missing from the account, at whatever moment the broker dies. It ends when its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin


def report(**line: object) -> None:
    """Write one JSON line to stdout, at once and past every buffer of this process."""
    os.write(1, json.dumps(line).encode() + b"\n")


class Counter(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed
    """The broker's plugin: lets every client in, and reports what arrives."""

    async def authenticate(self, *, session: Any) -> bool:
        """Let everybody in: the broker listens on 127.0.0.1 only."""
        return True

    async def on_mqtt_packet_received(self, *, packet: Any, session: Any = None) -> None:
        """Report a PUBLISH. The broker schedules this before it handles the packet, and so before it acknowledges."""
        if type(packet).__name__ == "PublishPacket":
            report(event="publish", topic=packet.topic_name, payload=bytes(packet.data).decode(errors="replace"))


async def serve(port: int) -> None:
    """Listen on 127.0.0.1:`port` until stdin ends. Raises BrokerError when the port cannot be had."""
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"gateway.cli.demo.broker.Counter": {}},
        }
    )
    await broker.start()
    report(event="ready")
    await asyncio.to_thread(sys.stdin.buffer.read)


def main() -> int:
    """Run one broker. The process is meant to be killed; its stdin ends when the demo does."""
    logging.disable(logging.CRITICAL)
    asyncio.run(serve(int(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
