"""The Python client beside its peers: 120 bytes a message, a window of 1000, one mosquitto."""

from __future__ import annotations

import argparse

from bench.client_peers import receive, send, send_mosquitto_pub
from bench.report import Goal, rounds, speeds

CLIENT, BLOCKING, DURABLE = "Client", "BlockingClient", "Client with a store"
PEER, PAHO = "mosquitto_pub -l", "paho-mqtt"
ITERATOR, CALLBACK = "Client, iterating", "Client, with a callback"


def measure_client(args: argparse.Namespace) -> list[Goal]:
    """Measure sending and receiving, and what QoS, TLS, WebSocket and a store change."""
    return sending(args) + receiving(args) + beside(args)


def sending(args: argparse.Namespace) -> list[Goal]:
    """Measure QoS 1 without TLS, in memory and with a store on a real disk."""
    count = args.count
    senders = {
        CLIENT: lambda: send("client", count),
        BLOCKING: lambda: send("blocking", count),
        DURABLE: lambda: send("client", count, durable=True),
        PEER: lambda: send_mosquitto_pub(count),
        PAHO: lambda: send("paho_sends", count),
    }
    found = rounds(args.rounds, senders)
    speeds(f"Sending {count:,} messages at QoS 1", "messages", found, PEER)
    (rate, cpu), (peer, peer_cpu) = found[CLIENT], found[PEER]
    ratio, paho, work, durable = rate / peer, rate / found[PAHO][0], cpu / peer_cpu, found[DURABLE][0] / peer
    return [
        Goal("Client, of mosquitto_pub's rate: at least 1.0 (aim 1.3)", ratio, ratio >= 1.0),
        Goal("Client, of paho-mqtt's rate: at least 4", paho, paho >= 4),
        Goal("Client, of mosquitto_pub's CPU: at most 1.0", work, work <= 1.0),
        Goal("Client with a store, of mosquitto_pub's rate: at least 0.8", durable, durable >= 0.8),
    ]


def receiving(args: argparse.Namespace) -> list[Goal]:
    """Measure what a subscriber at QoS 1 takes."""
    receivers = {
        ITERATOR: lambda: receive("client_receives", args.count),
        CALLBACK: lambda: receive("client_calls_back", args.count),
        PAHO: lambda: receive("paho_receives", args.count),
    }
    found = rounds(args.rounds, receivers)
    speeds(f"Receiving {args.count:,} messages at QoS 1", "messages", found, PAHO)
    ratio = found[ITERATOR][0] / found[PAHO][0]
    return [Goal("receiving, of paho-mqtt's rate: at least 3", ratio, ratio >= 3)]


def beside(args: argparse.Namespace) -> list[Goal]:
    """Measure QoS 0 and 2, TLS and WebSocket, for which there is no goal; mosquitto_pub has no WebSocket."""
    for title, qos, scheme in (
        ("QoS 0", 0, "mqtt"),
        ("QoS 2", 2, "mqtt"),
        ("QoS 1, TLS", 1, "mqtts"),
        ("QoS 1, WebSocket", 1, "ws"),
    ):
        senders = {CLIENT: lambda qos=qos, scheme=scheme: send("client", args.count, qos, scheme)}
        if scheme != "ws":
            senders[PEER] = lambda qos=qos, scheme=scheme: send_mosquitto_pub(args.count, qos, scheme)
        senders[PAHO] = lambda qos=qos, scheme=scheme: send("paho_sends", args.count, qos, scheme)
        found = rounds(args.rounds, senders)
        speeds(f"Sending {args.count:,} messages: {title}", "messages", found, PEER if PEER in senders else PAHO)
    return []
