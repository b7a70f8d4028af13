"""Measure sensor-gateway beside its peers, in one run, on this machine: `python -m bench` (or `make bench`).

Each measurement is repeated in rounds that take the senders in turn, so that whatever else the machine does hits all of
them; what is printed is the median of the rounds. Only ratios within one run mean anything on another machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys

from bench.backlog import ORDERS, catch_up
from bench.client import measure_client
from bench.devices import measure_devices
from bench.flood import measure_flood
from bench.measure import Lost, calm, drain_gateway, drain_mosquitto_pub, full_speed
from bench.report import Goal, rounds, speeds, table
from bench.rig import find
from bench.senders import SENDERS
from bench.wear import measure_wear

OURS, PEER, SCRIPT = SENDERS
SCRIPT_SHARE = 5  # the script is so slow that a fifth of the readings is enough


def measure_full_speed(args: argparse.Namespace) -> list[Goal]:
    """Measure a line that never pauses."""
    shares = {OURS: 1, PEER: 1, SCRIPT: SCRIPT_SHARE}
    senders = {
        name: (lambda name=name, share=share: full_speed(name, args.count // share)) for name, share in shares.items()
    }
    found = rounds(args.rounds, senders)
    title = f"Full speed: {args.count:,} readings as fast as the line takes them (the script: a fifth of them)"
    speeds(title, "readings", found, PEER)
    ratio = found[OURS][0] / found[PEER][0]
    return [Goal("full speed, of mosquitto_pub's: at least 0.8", ratio, ratio >= 0.8)]


def measure_calm(args: argparse.Namespace) -> list[Goal]:
    """Measure a line that sends `--rate` readings a second."""
    count = round(args.rate * args.seconds)
    found = rounds(args.rounds, {name: (lambda name=name: calm(name, count, args.rate)) for name in SENDERS})
    rows = [
        [name, f"{cpu:.1f}", f"{cpu / found[PEER][0]:.2f}", f"{p50:.2f}", f"{p99:.2f}"]
        for name, (cpu, p50, p99) in found.items()
    ]
    heads = ["sender", "CPU s per 100,000", "ratio", "latency p50 ms", "p99 ms"]
    table(f"A calm line: {args.rate:g} readings a second for {args.seconds:g} s", heads, rows)
    ratio, p50 = found[OURS][0] / found[PEER][0], found[OURS][1]
    return [
        Goal("CPU on the calm line, of mosquitto_pub's: at most 1.5", ratio, ratio <= 1.5),
        Goal("latency p50 in ms: at most 1", p50, p50 <= 1.0),
    ]


def measure_drain(args: argparse.Namespace) -> list[Goal]:
    """Measure how fast a stored backlog is sent once a broker is there."""
    found = rounds(
        args.rounds,
        {OURS: lambda: drain_gateway(args.backlog), PEER: lambda: drain_mosquitto_pub(args.backlog)},
    )
    title = f"Drain: {args.backlog:,} readings stored in the outbox; for mosquitto_pub, in a pipe"
    speeds(title, "readings", found, PEER)
    ratio = found[OURS][0] / found[PEER][0]
    return [Goal("drain, of mosquitto_pub's rate: at least 1.0", ratio, ratio >= 1.0)]


def measure_backlog(args: argparse.Namespace) -> list[Goal]:
    """Measure live readings beside a backlog of a day, and what they cost it."""
    found = rounds(args.rounds, {order: (lambda order=order: catch_up(order, args.day, args.rate)) for order in ORDERS})
    rows = [
        [order, f"{rate:,.0f}", f"{p50:,.1f}", f"{p99:,.1f}", f"{cpu:.2f}"]
        for order, (rate, p50, p99, cpu) in found.items()
    ]
    heads = ["order", "backlog readings/s", "live latency p50 ms", "p99 ms", "CPU s per 100,000"]
    table(f"Catching up: {args.day:,} readings in the outbox, and {args.rate:g} live ones a second", heads, rows)
    live, strict = (found[order] for order in ORDERS)
    return [
        Goal("live latency p99 beside a backlog in ms: at most 1000", live[2], live[2] <= 1000),
        Goal(
            "drain of the backlog, of strict order's: at least 0.95", live[0] / strict[0], live[0] >= 0.95 * strict[0]
        ),
    ]


MEASUREMENTS = {
    "full": measure_full_speed,
    "calm": measure_calm,
    "drain": measure_drain,
    "client": measure_client,
    "backlog": measure_backlog,
    "devices": lambda args: measure_devices(args.seconds),
    "flood": lambda args: measure_flood(args.rounds, args.seconds / 4),
    "wear": lambda args: measure_wear(args.outage),
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", nargs="*", metavar="|".join(MEASUREMENTS), help="what to measure; without it, everything"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each sender runs (default 3)")
    parser.add_argument(
        "--count", type=int, default=50_000, help="readings at full speed, messages of the client (default 50000)"
    )
    parser.add_argument("--rate", type=float, default=100.0, help="readings a second on the calm line (default 100)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the calm line lasts (default 20)")
    parser.add_argument("--backlog", type=int, default=200_000, help="readings in the backlog (default 200000)")
    parser.add_argument("--day", type=int, default=864_000, help="readings to catch up with (default 864000)")
    parser.add_argument("--outage", type=int, default=3600, help="seconds without a broker, simulated (default 3600)")
    args = parser.parse_args()
    if wrong := set(args.what) - set(MEASUREMENTS):
        parser.error(f"nothing is called {', '.join(wrong)}; choose from {', '.join(MEASUREMENTS)}")
    return args


def main() -> int:
    """Run the measurements and print them; the exit status is 1 when a sender lost readings."""
    args = arguments()
    version = subprocess.run((find("mosquitto"), "-h"), capture_output=True, text=True).stdout.partition("\n")[0]
    find("mosquitto_pub")
    print(f"Python {platform.python_version()}, {version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    print(f"median of {args.rounds} rounds; to one mosquitto, counted by one subscriber")
    goals: list[Goal] = []
    try:
        for name in args.what or MEASUREMENTS:
            goals += MEASUREMENTS[name](args)
    except Lost as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print()
    for goal in goals:
        print(f"{'reached    ' if goal.reached else 'NOT REACHED'}  {goal.words}: {goal.value:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
