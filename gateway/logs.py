"""Logs: for eyes on a terminal, as JSON lines otherwise; one line when something is lost and one when it is back."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

LEVELS = ("debug", "info", "warning", "error")


def configure(style: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog for the whole process.

    `style` is "console", "json" or "auto" (console on a terminal); `level` is one of LEVELS. Lines go to
    standard error.
    """
    out = sys.stderr if stream is None else stream
    if style == "auto":
        style = "console" if out.isatty() else "json"
    number = getattr(logging, level.upper())
    renderer: Any
    if style == "console":
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        # As Python writes it: the values of variables, which structlog would add, fill pages and may be secrets.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0, exception_formatter=plain)
        chain: list[Any] = [structlog.processors.add_log_level, stamp, renderer]
    else:
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
        chain = [structlog.processors.add_log_level, stamp, structlog.processors.format_exc_info, renderer]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
