"""Where a client logs: to structlog if the program has set it up, and else to the standard library, quietly."""

from __future__ import annotations

import logging
from typing import Any

import structlog


def default() -> Any:
    """Return a logger. Without structlog being configured, it is `logging.getLogger("gateway.client")`.

    A library must not print on standard output, which is what structlog does by default.
    """
    if structlog.is_configured():
        return structlog.get_logger()
    return structlog.wrap_logger(
        logging.getLogger("gateway.client"),
        processors=[structlog.stdlib.filter_by_level, _as_line],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _as_line(_logger: Any, _method: str, entry: Any) -> Any:
    event, exception = entry.pop("event"), entry.pop("exc_info", None)
    more = ", ".join(f"{key}={value}" for key, value in entry.items())
    return (f"{event} ({more})" if more else event,), {"exc_info": exception}
