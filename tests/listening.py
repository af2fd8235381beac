"""How a test's own server stops listening."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

_TURNS = 5
"""Of the loop, in which it makes a connection of what it accepted."""


class _Listening(Protocol):
    def fileno(self) -> int: ...


async def accept_no_more(sockets: Iterable[_Listening]) -> None:
    """Accept nothing more, and let what was accepted become connections; close the server after that.

    One that is closed a moment after it accepted leaves that socket to the garbage collector (CPython up to
    3.12): a ResourceWarning, which then fails whichever test is running.
    """
    loop = asyncio.get_running_loop()
    for each in sockets:
        loop.remove_reader(each.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
