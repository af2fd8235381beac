"""A real API server with a large made-up cluster in it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import yaml

from bench.world import NAMESPACES, cluster_documents
from tests.api.rig import ADMIN_TOKEN, ApiServer
from tests.cluster import binaries

AT_ONCE = 64
"""Requests under way while the cluster is filled."""
NODES = 100
MOST_TRIES = 5
_CRDS = Path(__file__).parents[1] / "crds"
_PLURALS = {
    "Server": "servers",
    "AuthorizationPolicy": "authorizationpolicies",
    "MeshDefaults": "meshdefaults",
    "Pod": "pods",
}

Object = dict[str, Any]


class NotBuiltError(Exception):
    """The API server's binaries aren't there; the message says how to get them."""


@dataclass(frozen=True)
class PodOf:
    """A pod as the API server made it."""

    number: int
    namespace: str
    account: str
    uid: str


@dataclass
class Filled:
    """An API server, and who asks it."""

    api: ApiServer
    session: aiohttp.ClientSession
    pods: list[PodOf] = field(default_factory=list)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def ask(self, method: str, path: str, body: Object, kind: str = "application/json") -> Object:
        """Raise aiohttp.ClientError unless it is done; an API server with too much to do is asked again."""
        headers = {"Content-Type": kind}
        for attempt in range(MOST_TRIES):
            async with self._places, self.session.request(method, path, json=body, headers=headers) as answer:
                if answer.status not in (429, 500, 503, 504):
                    text = await answer.text()
                    if answer.status >= 300:
                        raise aiohttp.ClientError(f"{method} {path}: {answer.status} {text[:500]}")
                    found: Object = json.loads(text)
                    return found
            await asyncio.sleep(0.2 * 2**attempt)
        raise aiohttp.ClientError(f"{method} {path}: not taken in {MOST_TRIES} tries")

    async def fill(self, workloads: int) -> None:
        """Create namespaces, accounts, nodes, and each workload's Server, policies and pods."""
        await self._all(self._crd(file) for file in sorted(_CRDS.glob("*.yaml")))
        await self._established()
        names = [f"ns-{number}" for number in range(min(NAMESPACES, workloads))]
        await self._all(
            self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": each}}) for each in names
        )
        nodes = (f"node-{number}" for number in range(NODES))
        await self._all(self.ask("POST", "/api/v1/nodes", {"metadata": {"name": each}}) for each in nodes)
        await self._all(self._account(number) for number in range(workloads))
        await self.create(each for number in range(workloads) for each in cluster_documents(number))

    async def create(self, documents: Iterable[Object]) -> list[PodOf]:
        """Create objects, and then their pods, which run; return these."""
        pods: list[Object] = []
        others: list[Object] = []
        before = len(self.pods)
        for each in documents:
            (pods if each["kind"] == "Pod" else others).append(each)
        await self._all(self._create(each) for each in others)
        await self._all(self._pod(number, each) for number, each in enumerate(pods, before))
        self.pods.sort(key=lambda pod: pod.number)
        return self.pods[before:]

    async def _all(self, work: Iterable[Any]) -> None:
        """Do it all, without a task for each at once."""
        waiting = iter(work)

        async def take() -> None:
            for each in waiting:
                await each

        await asyncio.gather(*(take() for _ in range(AT_ONCE)))

    async def _crd(self, file: Path) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await self.ask("POST", path, yaml.safe_load(file.read_text()))

    async def _established(self) -> None:
        """Wait until our kinds are served."""
        for plural in ("servers", "authorizationpolicies", "meshdefaults"):
            async with asyncio.timeout(30):
                while (await self.session.get(f"/apis/policyd.dev/v1alpha1/{plural}")).status != 200:
                    await asyncio.sleep(0.1)

    async def _account(self, number: int) -> None:
        path = f"/api/v1/namespaces/ns-{number % NAMESPACES}/serviceaccounts"
        await self.ask("POST", path, {"metadata": {"name": f"w{number}"}})

    async def _create(self, document: Object) -> Object:
        return await self.ask("POST", path_of(document), document)

    async def _pod(self, number: int, document: Object) -> None:
        """Create a pod that runs, with an address."""
        metadata, spec = document["metadata"], document["spec"]
        metadata.pop("uid")
        for container in spec["containers"]:
            container["image"] = "localhost/app:1"
        spec["nodeName"] = f"node-{number % NODES}"
        spec["automountServiceAccountToken"] = False
        made = await self._create(document)
        self.pods.append(
            PodOf(number, metadata["namespace"], spec["serviceAccountName"], made["metadata"]["uid"])
        )
        address = f"10.{1 + number // 50_000}.{number // 250 % 200}.{number % 250 + 1}"
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.0.0.1"}
        path = f"{path_of(document)}/{metadata['name']}/status"
        await self.ask("PATCH", path, {"status": status}, "application/merge-patch+json")


def path_of(document: Object) -> str:
    """Where objects of that kind and namespace are."""
    group = "/api/v1" if document["apiVersion"] == "v1" else f"/apis/{document['apiVersion']}"
    namespace = document["metadata"].get("namespace")
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{group}{within}/{_PLURALS[document['kind']]}"


@asynccontextmanager
async def filled(workloads: int) -> AsyncIterator[Filled]:
    """Start an API server and fill it. Raises NotBuiltError."""
    if not binaries.is_built("api"):
        raise NotBuiltError(f"{binaries.folder()} isn't built: `make kubernetes` does that, with Go")
    with TemporaryDirectory(prefix="policyd-scale-") as folder:
        api = ApiServer(Path(folder))
        try:
            await asyncio.to_thread(api.start)
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=api.ca), limit=AT_ONCE)
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            async with aiohttp.ClientSession(api.url, connector=connector, headers=headers) as session:
                found = Filled(api, session)
                await found.fill(workloads)
                yield found
        finally:
            api.stop()
