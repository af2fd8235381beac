"""A cluster that a small server plays: what is served, and what becomes of kinds that aren't."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from kubeapi.client import Client
from kubeapi.errors import ApiError
from policyd.model.names import ObjectKey
from policyd.resources.registry import KINDS
from policyd.sources.events import Added, Deleted, Updated
from policyd.sources.kubernetes.cluster_source import ClusterSource
from policyd.sources.kubernetes.served import served
from tests.unit.kubeapi.small_server import Server, status, until

SERVER = KINDS["policyd.dev", "Server"]
NAMESPACE = KINDS["", "Namespace"]
KEY = ObjectKey("policyd.dev", "Server", "shop", "web")


class Cluster:
    """Serves namespaces, and Servers where `crd` says so."""

    def __init__(self) -> None:
        self.ready = True
        self.crd = True
        self.version = 10
        self.servers: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, dict[str, Any]]] = []

    def put(self, name: str, kind: str = "ADDED", **spec: Any) -> None:
        self.version += 1
        meta = {"name": name, "namespace": "shop", "uid": f"u-{name}", "resourceVersion": str(self.version)}
        found = {"metadata": meta, "spec": {"podSelector": {}, "port": 80, **spec}}
        if kind == "DELETED":
            del self.servers[name]
        else:
            self.servers[name] = found
        self.events.append((self.version, {"type": kind, "object": found}))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/readyz":
            return web.Response(status=200 if self.ready else 500, text="ok")
        if path == "/apis":
            groups = [{"name": "policyd.dev", "versions": [{"version": "v1alpha1"}]}] if self.crd else []
            return web.json_response({"groups": groups})
        if path in {"/api/v1", "/apis/policyd.dev/v1alpha1"}:
            kinds = {"namespaces": "Namespace"} if path == "/api/v1" else {"servers": "Server"}
            listed = [{"name": name, "kind": kind, "verbs": ["watch"]} for name, kind in kinds.items()]
            return web.json_response({"resources": listed})
        if path.endswith("/servers") and self.crd:
            return await self._kind(request, list(self.servers.values()))
        if path.endswith("/namespaces"):
            return await self._kind(request, [])
        return web.json_response(status(404, "NotFound", "no such thing"), status=404)

    async def _kind(self, request: web.Request, items: list[dict[str, Any]]) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        if "sendInitialEvents" in request.query:
            return web.json_response(status(422, "Invalid", "sendInitialEvents: forbidden"), status=422)
        response = web.StreamResponse()
        await response.prepare(request)
        told = int(request.query["resourceVersion"])
        while request.path.endswith("/namespaces") or self.crd:
            for version, event in self.events:
                if version > told and request.path.endswith("/servers"):
                    await response.write(json.dumps(event).encode() + b"\n")
                    told = version
            await asyncio.sleep(0.01)
        return response


@pytest.fixture
async def cluster(server: Server) -> AsyncIterator[Cluster]:
    found = Cluster()
    server.answers = [found.handle]
    yield found
    found.crd = False


async def test_what_is_served_has_a_path(cluster: Cluster, server: Server) -> None:
    async with Client(server.access(), "m") as client:
        paths = await served(client, [SERVER, NAMESPACE, KINDS["policy.linkerd.io", "Server"]])
        assert {key: path.url() for key, path in paths.items()} == {
            ("policyd.dev", "Server"): "/apis/policyd.dev/v1alpha1/servers",
            ("", "Namespace"): "/api/v1/namespaces",
        }
        cluster.ready = False
        with pytest.raises(ApiError):  # one that is starting doesn't list everything yet
            await served(client, [SERVER])


async def test_changes_come_as_batches(cluster: Cluster, server: Server) -> None:
    cluster.put("web")
    async with Client(server.access(), "m") as client:
        source = ClusterSource(client, [SERVER, NAMESPACE])
        first = await source.begin()
        assert first.events[0].key == KEY
        assert isinstance(first.events[0], Added)
        assert dict(first.versions) == {"Server.policyd.dev": 11, "Namespace": 11}
        batches = source.batches()
        cluster.put("web", "MODIFIED", port=81)
        cluster.put("db")
        batch = await anext(batches)
        assert [type(event) for event in batch.events] == [Added, Updated]
        assert dict(batch.versions)["Server.policyd.dev"] == 13
        cluster.put("web", "DELETED")
        assert (await anext(batches)).events == (Deleted(KEY),)
        source.close()
        assert [batch async for batch in batches] == []


async def test_a_kind_that_is_not_served_has_no_objects_until_it_is(
    cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyd.sources.kubernetes.cluster_source.ASK_SECONDS", 0.2)
    cluster.crd = False
    cluster.put("web")
    async with Client(server.access(), "m") as client:
        source = ClusterSource(client, [SERVER, NAMESPACE])
        assert (await source.begin()).events == ()
        cluster.crd = True
        batch = await anext(source.batches())
        assert [event.key for event in batch.events] == [KEY]
        source.close()


async def test_objects_outlive_an_answer_that_their_kind_is_missing(
    cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment's 404 isn't a revocation of everything, nor a grant: three answers of a ready server are."""
    for name, value in (("ASK_SECONDS", 0.1), ("SURE_SECONDS", 0.3)):
        monkeypatch.setattr(f"policyd.sources.kubernetes.cluster_source.{name}", value)
    cluster.put("web")
    async with Client(server.access(), "m") as client:
        source = ClusterSource(client, [SERVER, NAMESPACE])
        await source.begin()
        events: list[Any] = []

        async def collect() -> None:
            async for batch in source.batches():
                events.extend(batch.events)

        collecting = asyncio.create_task(collect())
        cluster.crd = False
        cluster.ready = False
        await asyncio.sleep(1.5)
        assert events == [], "a server that isn't ready says nothing of what is missing"
        cluster.ready = True
        await until(lambda: events == [Deleted(KEY)], 30.0)
        source.close()
        await collecting
