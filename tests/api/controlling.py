"""A controller that follows a real API server, and a Server and policies to give it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from identity.spiffe_id import SpiffeId
from kubeapi.access import Access
from kubeapi.client import Client
from policyd.distribute.basis import Basis
from policyd.distribute.controller import Controller
from policyd.distribute.envelope import Hashes
from policyd.sources.kubernetes.cluster_source import ClusterSource
from servicekit.leaf import Leaf
from tests.api import objects
from tests.api.rig import ApiServer

POLICIES = "/apis/policyd.dev/v1alpha1/namespaces/{}/authorizationpolicies"


def _leaf(pod: objects.Pod) -> Leaf:
    identity = SpiffeId.parse(f"spiffe://cluster.local/ns/{pod.namespace}/sa/{pod.account}")
    now = datetime.now(UTC)
    return Leaf(identity, pod.uid, now - timedelta(hours=1), now + timedelta(hours=1), "ab" * 32)


def policy(name: str, account: str) -> dict[str, Any]:
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": "web"},
            "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": account}],
        },
    }


def web(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": 80},
    }


@dataclass
class Serving:
    """A controller on the cluster, and the one pod that asks."""

    controller: Controller
    pod: objects.Pod
    namespace: str

    @property
    def hashes(self) -> Hashes:
        return self.controller.contents(_leaf(self.pod), (), 1).hashes

    @property
    def table(self) -> bytes:
        return self.hashes.snapshot


@contextlib.asynccontextmanager
async def controlling(api: ApiServer, state: Path, access: Access | None = None) -> AsyncIterator[Controller]:
    """A controller that follows the cluster, by `access` where something stands between."""
    async with Client(access or Access.kubeconfig(api.kubeconfig), "policyd") as client:
        source = ClusterSource(client)
        controller = Controller([source], "cluster.local")
        await controller.start(Basis(state / "basis.json", [source]))
        following = asyncio.create_task(controller.follow())
        try:
            yield controller
            assert not following.done()
        finally:
            following.cancel()
            controller.close()
            await asyncio.gather(following, return_exceptions=True)
