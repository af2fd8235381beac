"""One Lease: of several processes one leads, and knows when it no longer does.

No fencing: what a leader sent before it stopped may arrive later. It must be such that this does no harm:
server-side apply, or guarded by a resourceVersion.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from kubeapi.backoff import Backoff
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.lease import JITTER, Candidacy, Lease, Timing
from kubeapi.path import ResourcePath

RELEASE_SECONDS = 3.0
"""How long giving the Lease back may take at the end."""
END_SECONDS = 4.0
"""How long what only a leader does may take to end; it is told of before the Lease can be another's."""

Lead = Callable[[], Awaitable[None]]


def suspended_too() -> float:
    """Return seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """Runs `lead` while it holds the Lease. `is_leader` is right at every instant, after a long pause too."""

    def __init__(
        self,
        client: Client,
        path: ResourcePath,
        name: str,
        identity: str,
        timing: Timing | None = None,
    ) -> None:
        """`path` are the Leases of a namespace. `identity` belongs to this one life of this one process."""
        self.transitions = 0
        """How often it began to lead."""
        self._client = client
        self._path = path
        self._name = name
        self._clock = suspended_too
        self._candidacy = Candidacy(identity, timing or Timing())
        self._problem: str | None = None
        self._log = structlog.get_logger().bind(lease=name, identity=identity)

    @property
    def is_leader(self) -> bool:
        """Whether nobody else can lead now; to be asked before everything that only a leader does."""
        return self._candidacy.leads(self._clock())

    @property
    def holder(self) -> str:
        """Who holds the Lease, as was seen last; "" where nobody does."""
        return self._candidacy.holder

    @property
    def problem(self) -> str | None:
        """Why the last attempt gave no answer; None where it did."""
        return self._problem

    async def run(self, lead: Lead) -> None:
        """Compete for ever. `lead` is cancelled when the Lease is lost; should it end, it is others' turn.

        Cancelled, it ends `lead` and gives the Lease back.
        """
        backoff = Backoff()
        try:
            while True:
                await self._acquire()
                self.transitions += 1
                self._log.info("leads")
                ended = await self._lead(lead)
                self._log.info("leads_no_more", ended=ended)
                if ended:
                    await self._release()
                    await asyncio.sleep(self._candidacy.timing.retry + backoff.next())
                else:
                    backoff.reset()
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while not await self._attempt(self._candidacy.timing.renew_deadline):
            await asyncio.sleep(self._pause())

    async def _lead(self, lead: Lead) -> bool:
        """Renew, as long as that goes well; return whether `lead` ended by itself."""
        leading = asyncio.ensure_future(lead())
        try:
            while (left := self._candidacy.seconds_left(self._clock())) > 0:
                await asyncio.wait({leading}, timeout=min(self._pause(), left))
                if leading.done():
                    self._say_why(leading)
                    return True
                left = self._candidacy.seconds_left(self._clock())
                if left > 0:
                    await self._attempt(left)
            return False
        finally:
            self._candidacy.ended()
            leading.cancel()
            await asyncio.wait({leading}, timeout=END_SECONDS)
            if not leading.done():
                self._log.error("leads_on", problem="what only a leader does didn't end when told to")

    def _say_why(self, leading: asyncio.Future[None]) -> None:
        error = None if leading.cancelled() else leading.exception()
        self._log.error("leading_failed", problem=repr(error), exc_info=error)

    async def _attempt(self, seconds: float) -> bool:
        """Try once to get or renew the Lease, within some seconds; whether we lead."""
        try:
            async with asyncio.timeout(seconds):
                await self._get_or_renew()
        except (ApiError, AccessError) as error:
            self._failed(str(error))
        except TimeoutError:
            self._failed("no answer in time")
        else:
            self._problem = None
        return self.is_leader

    def _failed(self, problem: str) -> None:
        if self._problem is None:
            self._log.warning("lease_not_settled", problem=problem)
        self._problem = problem

    async def _get_or_renew(self) -> None:
        """Ask once. Raises ApiError, AccessError."""
        candidacy = self._candidacy
        there = self.is_leader or await self._look()
        if not candidacy.may_take(self._clock()):
            return
        if not there:
            await self._write(None)
        else:
            try:
                await self._write(candidacy.version)
            except ApiError as error:
                if not (error.conflict or error.not_found):
                    raise
                await self._look()  # somebody else wrote: whose it is now is to be seen

    async def _look(self) -> bool:
        """See what there is; return whether there is a Lease. Raises ApiError, AccessError."""
        try:
            answer = await self._client.get(self._path, self._name)
        except ApiError as error:
            if not error.not_found:
                raise
            self._candidacy.gone()
            return False
        self._candidacy.saw(answer.into(Lease), self._clock())
        return True

    async def _write(self, version: str | None) -> None:
        """Write our name, into a new Lease (None) or over that very version. Raises ApiError, AccessError."""
        asked_at = self._clock()
        body = self._body(self._candidacy.record(datetime.now(UTC)), version)
        if version is None:
            try:
                answer = await self._client.create(self._path, body)
            except ApiError as error:
                if not error.conflict:
                    raise
                return  # another was there before us; the next attempt sees it
        else:
            answer = await self._client.replace(self._path, self._name, body)
        self._candidacy.wrote(answer.into(Lease), asked_at, self._clock())

    async def _release(self) -> None:
        """Give the Lease back where it is ours, so that the next needn't wait; else it ends by itself."""
        self._candidacy.ended()
        if self._candidacy.holder != self._candidacy.identity:
            return
        body = self._body(self._candidacy.release(datetime.now(UTC)), self._candidacy.version)
        with contextlib.suppress(ApiError, AccessError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                answer = await self._client.replace(self._path, self._name, body)
                self._candidacy.saw(answer.into(Lease), self._clock())

    def _body(self, spec: dict[str, Any], version: str | None) -> dict[str, Any]:
        metadata = {"name": self._name, "namespace": self._path.namespace}
        if version is not None:
            metadata["resourceVersion"] = version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    def _pause(self) -> float:
        return self._candidacy.timing.retry * random.uniform(1.0, JITTER)  # noqa: S311 — spreads load
