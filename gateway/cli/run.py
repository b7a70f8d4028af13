"""`sensor-gateway run`: load the config and hand it to the service. Imports neither typer nor rich."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

EX_CONFIG = 78  # sysexits.h: something is wrong in the config
DEFAULT_CONFIG = Path("/etc/sensor-gateway/gateway.toml")


def parser() -> argparse.ArgumentParser:
    """Return what `run` understands."""
    parser = argparse.ArgumentParser(
        prog="sensor-gateway run",
        description="Run in the foreground until SIGTERM or SIGINT; both stop in order and lose nothing.",
        epilog="Exit status: 0 stopped in order, 78 the config is wrong, 74 the outbox cannot be opened, or the card "
        "took nothing and readings are lost, 70 a bug.",
    )
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="the config (default: %(default)s)"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="the least that is worth a line (default: %(default)s)",
    )
    parser.add_argument(
        "--log-format",
        choices=("auto", "console", "json"),
        default="auto",
        help="auto: console on a terminal, JSON lines otherwise",
    )
    parser.add_argument(
        "--forget",
        action="append",
        default=[],
        metavar="UPLINK",
        help="let go of an uplink that is no longer in the config; the ledger says what it never got",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the service and return its exit status."""
    options = parser().parse_args(arguments)
    from gateway.config import ConfigError, load

    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    if kept := [name for name in options.forget if name in config.uplinks]:
        print(f"{options.config}: error: --forget {kept[0]}: that uplink is in the config", file=sys.stderr)
        return EX_CONFIG
    from gateway.service import run

    return run(
        config,
        file=options.config,
        log_format=options.log_format,
        log_level=options.log_level,
        forget=options.forget,
    )
