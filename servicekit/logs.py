"""Logs of a server: JSON lines on stderr, so that stdout carries only what was asked for."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(*, debug: bool) -> None:
    """Set up structlog and logging for the process."""
    level = logging.DEBUG if debug else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # A peer's broken bytes are its own affair: with tracebacks at its pace the log would be its, too.
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)
    for noisy in ("grpclib", "hpack", "h2"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if debug else logging.CRITICAL)
