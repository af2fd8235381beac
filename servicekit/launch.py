"""From a service's settings to its end: how each of them starts, and what it says where it can't."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine

import uvloop

from servicekit.logs import configure_logs


def launch(
    name: str,
    start: Callable[[], Coroutine[None, None, None]],
    faults: tuple[type[Exception], ...],
    debug: bool,
) -> None:
    """Run a service until it ends. One of `faults` is said in a line each on stderr, and is exit code 2."""
    configure_logs(debug=debug)
    try:
        uvloop.run(start())
    except faults as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"{name}: {line}", file=sys.stderr)  # noqa: T201 — one line, not a log
        sys.exit(2)
