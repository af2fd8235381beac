"""Which pods and ServiceAccounts there are, by a watch of identity's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from identity.cluster.state import State
from identity.refusal import Code, Refused
from identity.tokens import Caller
from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.told import ObjectName

HELD_SECONDS = 24 * 3600.0
"""How long the last state counts with the API server away: the longest life of a certificate (design 7)."""
APPEAR_SECONDS = 2.0
"""How long what the watch hasn't told of yet is waited for: a pod's token may be here before its event."""
_ENDED = ("Succeeded", "Failed")


class Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    deletion_timestamp: str | None = None


class PodSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    service_account_name: str = "default"


class PodStatus(msgspec.Struct, frozen=True, gc=False):
    phase: str = ""


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A Pod, as far as it is read here."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Account(msgspec.Struct, frozen=True, gc=False):
    """A ServiceAccount, as far as it is read here."""

    metadata: Meta


class ClusterPods:
    """A `PodPresence` by what the watches tell. `run` until cancelled."""

    def __init__(self, client: Client, now: Callable[[], float] = time.monotonic) -> None:
        """`now` counts as `time.monotonic` does."""
        self.pods = State(client, ResourcePath("", "v1", "pods"), Pod)
        self.accounts = State(client, ResourcePath("", "v1", "serviceaccounts"), Account)
        self._now = now

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pods.run())
            tasks.create_task(self.accounts.run())

    async def complete(self) -> None:
        """Return once both kinds are known."""
        await self.pods.reflector.listed.wait()
        await self.accounts.reflector.listed.wait()

    @property
    def age(self) -> float | None:
        """Seconds for which it hasn't been known whether anything changed; None before anything was known."""
        reflectors = self.pods.reflector, self.accounts.reflector
        if not all(found.listed.is_set() for found in reflectors):
            return None
        failing = [found.failing_since for found in reflectors if found.failing_since is not None]
        return self._now() - min(failing) if failing else 0.0

    async def require(self, caller: Caller) -> None:
        age = self.age
        if age is None:
            raise _unknown("the API server hasn't said yet which pods there are")
        if age > HELD_SECONDS:
            raise _unknown(f"the API server hasn't said for {age / 3600:.0f} h which pods there are")
        await self._require_pod(caller)
        await self._require_account(caller)

    async def _require_pod(self, caller: Caller) -> None:
        name = ObjectName(caller.namespace, caller.pod_name)
        pod = await self.pods.find(name, caller.pod_uid, APPEAR_SECONDS)
        named = f"pod {'/'.join(name)}"
        if pod is None:
            raise _gone(f"{named} with uid {caller.pod_uid} isn't there")
        if pod.spec.service_account_name != caller.service_account:
            raise _gone(f"{named} doesn't run as {caller.service_account}")
        if pod.metadata.deletion_timestamp is not None or pod.status.phase in _ENDED:
            raise _gone(f"{named} is terminating or has ended")

    async def _require_account(self, caller: Caller) -> None:
        name = ObjectName(caller.namespace, caller.service_account)
        account = await self.accounts.find(name, caller.service_account_uid, APPEAR_SECONDS)
        named = f"ServiceAccount {'/'.join(name)}"
        if account is None:
            raise _gone(f"{named} with uid {caller.service_account_uid} isn't there")
        if account.metadata.deletion_timestamp is not None:
            raise _gone(f"{named} is terminating")


def _gone(what: str) -> Refused:
    return Refused(Code.POD_GONE, what)


def _unknown(what: str) -> Refused:
    return Refused(Code.CLUSTER_UNKNOWN, f"{what}; try again")
