"""Whom policyd looks at next: nobody waits for a thousand others of one namespace (promise P-8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from policyd.distribute.publish import Publisher
from policyd.distribute.service import PolicyStreamService
from policyd.distribute.session import Contents, Session
from policyd.turns import SLICE_SECONDS
from policyd_api.v1 import stream_pb2 as wire
from servicekit.leaf import Leaf
from tests.unit.policyd.distribute.conftest import FakeTeller, leaf

MANY = 1000
BUSY_SECONDS = SLICE_SECONDS / 4
"""What a table of the crowd takes to make."""
LATE_SECONDS = 60.0


class _Fanout:
    """Who was told, in order; no stream is behind it."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.settled = False

    def tell(self, stream: int, _contents: Contents) -> None:
        self.told.append(stream)

    def stand(self, _standing: object, *, settled: bool) -> None:
        self.settled = settled


class _Busy(FakeTeller):
    """Makes a table for everybody of the crowd, and takes its time."""

    def contents(self, caller: Leaf, services: tuple[str, ...], reader_version: int) -> Contents:
        if caller.identity.service_account == ("crowd", "web"):
            until = asyncio.get_running_loop().time() + BUSY_SECONDS
            while asyncio.get_running_loop().time() < until:
                pass
        return super().contents(caller, services, reader_version)


@pytest.mark.promise("P-8")
async def test_p_8_a_change_of_a_thousand_workloads_holds_up_no_other_namespace() -> None:
    fanout: Any = _Fanout()
    service = PolicyStreamService(_Busy(), Publisher(), fanout)

    def woken(stream: int, namespace: str) -> None:
        found = Session(stream, leaf(f"{namespace}/web", f"uid-{stream}"), fanout, service._is_due)
        found.greet(wire.Hello(reader_version=1))

    for stream in range(1, MANY + 1):
        woken(stream, "crowd")
    async with asyncio.timeout(LATE_SECONDS):
        while len(fanout.told) < MANY // 4:
            await asyncio.sleep(0)
        before = len(fanout.told)
        woken(0, "quiet")
        while 0 not in fanout.told:
            await asyncio.sleep(0)
        assert fanout.told.index(0) - before <= 2 * SLICE_SECONDS / BUSY_SECONDS, "it waited for the crowd"
        assert not fanout.settled, "the crowd hasn't been told all"
        while len(fanout.told) < MANY + 1:
            await asyncio.sleep(0)
        assert fanout.told[: MANY // 4] == list(range(1, MANY // 4 + 1))
        assert fanout.settled
