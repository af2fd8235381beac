"""Status, Events and leadership of one policyd: beside what it tells proxies, and never in its way."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable

import structlog

from kubeapi.access import Access
from kubeapi.backoff import Backoff
from kubeapi.client import Client
from kubeapi.elector import Elector
from kubeapi.path import ResourcePath
from policyd.compile.compiler import Compiler
from policyd.status.acks import Proxies
from policyd.status.denials import Denials
from policyd.status.events import Recorder
from policyd.status.leading import Leading
from policyd.status.reports import Peers, Reporter

LEASE = "policyd"
"""The Lease's name, in the control plane's namespace."""
FIELD_MANAGER = "policyd-status"
"""Who owns the fields of statuses; the same for all replicas."""


def instance_name() -> str:
    """Return a name for this one life of this one process: the pod's, and something of its own."""
    pod = os.environ.get("POD_NAME") or socket.gethostname() or "policyd"
    safe = "".join(each if each.isalnum() or each in "-." else "-" for each in pod)
    return f"{safe[:100]}-{uuid.uuid4().hex[:8]}"


class StatusService:
    """Everything of it that fails is logged, counted and tried again; nothing of it reaches policyd's end."""

    def __init__(self, access: Access, namespace: str, compiler: Compiler, proxies: Proxies) -> None:
        """`namespace` is the control plane's."""
        self.instance = instance_name()
        self.is_sound: Callable[[], bool] = lambda: True
        """Whether tables are those of the world as it is; statuses wait where they aren't."""
        self.failures = 0
        """How often a part of it ended and was begun again."""
        self._namespace = namespace
        self._compiler = compiler
        self._proxies = proxies
        self._client = Client(access, FIELD_MANAGER)
        leases = ResourcePath("coordination.k8s.io", "v1", "leases", namespace)
        self.elector = Elector(self._client, leases, LEASE, self.instance)
        self.leading: Leading | None = None
        self.denied = Recorder(self._client, self.instance)
        self.found = Recorder(self._client, self.instance)
        self.denials = Denials(compiler.world, self.denied)
        self._access = access

    async def run(self) -> None:
        """Work until cancelled. Never raises anything else."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._for_ever("elect", lambda: self.elector.run(self._lead)))
                group.create_task(self._for_ever("report", self._report))
                group.create_task(self._for_ever("tell denials", self.denied.run))
        finally:
            await self._client.close()

    async def _for_ever(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff()
        while True:
            try:
                await work()
            except Exception:
                self.failures += 1
                structlog.get_logger().exception("status_failed", part=what)
            await asyncio.sleep(backoff.next())

    async def _report(self) -> None:
        reporter = Reporter(self._access, self._namespace, self.instance, self._proxies)
        await reporter.run(lambda: self.elector.is_leader)

    async def _lead(self) -> None:
        peers = Peers(self._client, self._namespace, self.instance)
        self.found = Recorder(self._client, self.instance)
        self.leading = Leading(self._client, self._compiler, peers, self._proxies, self.found)
        self.leading.is_sound = self.is_sound
        try:
            await self.leading.run(lambda: self.elector.is_leader)
        except Exception:
            self.failures += 1
            raise
        finally:
            self.leading = None
