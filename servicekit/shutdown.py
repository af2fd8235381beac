"""A graceful end: SIGTERM and SIGINT ask for it once, a second one ends at once."""

from __future__ import annotations

import asyncio
import signal


def stop_requested() -> asyncio.Event:
    """Install the handlers on the running loop; the event is set by the first signal."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, ask)
    return stop


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
