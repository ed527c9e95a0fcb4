"""The daemon's log: one line an event, on stderr."""

from __future__ import annotations

import sys
from typing import Any

from hooper.api.errors import InvalidArgument
from hooper.api.imports import import_without

structlog = import_without("structlog", "rich")  # it would print tracebacks with it: 4 MB

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def logger(level: str) -> Any:
    """A structlog logger that drops what is below `level`."""
    if level not in LEVELS:
        raise InvalidArgument(f'log level "{level}"', remedy=f"There are {', '.join(LEVELS)}.")
    colours = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=True)
            if colours
            else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger()
