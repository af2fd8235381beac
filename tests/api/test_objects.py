"""Objects of a real API server as policyd sees them: broken ones, replaced ones, kinds that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from kubeapi.access import Access
from policyd.compile.compiler import Compiler
from policyd.index.world import World
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource, Unreadable
from policyd.resources.registry import KINDS
from policyd.resources.workload import Pod
from policyd.sources.events import Updated
from policyd.sources.kubernetes.served import FOLLOWED
from tests.api import crds, objects
from tests.api.following import SOME, Following, follow, until, until_fresh
from tests.api.rig import ApiServer
from tests.api.test_faults import SERVERS, ask, make, remove, server

POLICIES = "/apis/policyd.dev/v1alpha1/namespaces/{}/authorizationpolicies"


@pytest.fixture(scope="module")
def lax(api: ApiServer) -> Iterator[None]:
    """Whatever tests before these installed: objects here were stored before there was a schema."""
    with crds.loosened(api, *crds.ours()):
        yield


@pytest.fixture
async def access(api: ApiServer, lax: None) -> Access:
    return Access.kubeconfig(api.kubeconfig)


def world_of(found: Following) -> World:
    world = World()
    world.apply(found.state.items())
    return world


BROKEN: dict[str, Any] = {
    "wrong-type": {"podSelector": "all", "port": 80},
    "null": {"podSelector": {}, "port": None},
    "unknown-enum": {"podSelector": {}, "port": 80, "proxyProtocol": "HTTP/9"},
    "unknown-field": {"podSelector": {}, "port": 80, "prot": 1},
    "spec-is-text": "port 80",
    "long": {"podSelector": {}, "port": 80, "proxyProtocol": "x" * 1_000_000},
}


async def test_ct_04_objects_that_no_schema_stopped_are_quarantined(
    api: ApiServer, access: Access, namespace: str
) -> None:
    many = {f"label-{index}": "x" for index in range(10_000)}
    async with follow(access) as found:
        await asyncio.to_thread(objects.create_pod, api, namespace, metadata={"labels": {"app": "web"}})
        await make(api, namespace, "good")
        for name, spec in BROKEN.items():
            await ask(api, "POST", SERVERS.format(namespace), server(name) | {"spec": spec})
        labelled = server("labels")
        labelled["metadata"]["labels"] = many
        await ask(api, "POST", SERVERS.format(namespace), labelled)
        names = {"good", "labels", *BROKEN}
        await until(lambda: found.named("Server", namespace) == names)
        servers = {
            key.name: each
            for key, each in found.state.items()
            if (key.kind, key.namespace) == ("Server", namespace)
        }
        for name in BROKEN:
            assert isinstance(servers[name], Unreadable), name
            assert servers[name].findings
        assert isinstance(servers["good"], Resource)
        assert len(servers["labels"].meta.labels) == 10_000
        compiler = Compiler(world_of(found), "test")
        assert any(name.namespace == namespace for name in compiler.tables)
        await until_fresh(api, found)


async def test_ct_05_another_object_of_the_same_name_is_another(
    api: ApiServer, access: Access, namespace: str
) -> None:
    first = await asyncio.to_thread(objects.create_pod, api, namespace, name="web")
    await make(api, namespace, "a")
    async with follow(access) as found:
        key = ObjectKey("", "Pod", namespace, "web")
        assert world_of(found).workloads.pod_by_uid(first.uid) == key

        def again() -> objects.Pod:
            objects.delete_pod(api, first)
            return objects.create_pod(api, namespace, name="web")

        second = await asyncio.to_thread(again)
        await remove(api, namespace, "a")
        await make(api, namespace, "a")
        await until(lambda: found.state.get(key) is not None and found.state[key].meta.uid == second.uid)
        workloads = world_of(found).workloads
        assert workloads.pod_by_uid(first.uid) is None
        assert workloads.pod_by_uid(second.uid) == key
        await until_fresh(api, found)


async def test_ct_05_made_again_within_a_batch_it_is_no_addition(
    api: ApiServer, access: Access, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyd.sources.kubernetes.cluster_source.QUIET_SECONDS", 2.0)
    monkeypatch.setattr("policyd.sources.kubernetes.cluster_source.GATHER_SECONDS", 8.0)
    await make(api, namespace, "a")
    async with follow(access) as found:
        key = ObjectKey("policyd.dev", "Server", namespace, "a")
        before = found.state[key].meta.uid
        await remove(api, namespace, "a")
        await make(api, namespace, "a")
        await until(lambda: key in found.state and found.state[key].meta.uid != before)
        (event,) = [event for batch in found.batches[1:] for event in batch.events if event.key == key]
        assert isinstance(event, Updated)


async def test_ct_06_what_ends_slowly_is_there_until_it_is_gone(
    api: ApiServer, access: Access, namespace: str
) -> None:
    pod = await asyncio.to_thread(
        objects.create_pod, api, namespace, name="slow", metadata={"finalizers": ["policyd.dev/test"]}
    )
    async with follow(access) as found:
        key = ObjectKey("", "Pod", namespace, "slow")
        await asyncio.to_thread(objects.delete_pod, api, pod)
        await until(lambda: found.state[key].meta.deletion is not None)
        path = f"/api/v1/namespaces/{namespace}/pods/slow"
        merge = {"Content-Type": "application/merge-patch+json"}
        await ask(api, "PATCH", path, {"metadata": {"finalizers": None}}, **merge)
        await until(lambda: key not in found.state)
        await until_fresh(api, found)


async def test_ct_06_namespaces_labels_and_accounts(api: ApiServer, access: Access, namespace: str) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    async with follow(access) as found:
        key = ObjectKey("", "Namespace", "", namespace)
        path = f"/api/v1/namespaces/{namespace}"
        await ask(api, "PATCH", path, {"metadata": {"labels": {"team": "a"}}}, **merge)
        await until(lambda: found.state[key].meta.labels.get("team") == "a")
        await asyncio.to_thread(objects.create_account, api, namespace, "before")
        await until(lambda: "before" in found.named("ServiceAccount", namespace))
        await asyncio.to_thread(objects.delete_account, api, namespace, "before")
        await asyncio.to_thread(objects.create_account, api, namespace, "after")
        await until(lambda: found.named("ServiceAccount", namespace) == {"default", "after"})
        await make(api, namespace, "a")
        await ask(api, "DELETE", path)
        await until(lambda: found.state[key].meta.deletion is not None)
        for name in ("default", "after"):  # what the namespace controller would do
            await asyncio.to_thread(objects.delete_account, api, namespace, name)
        await remove(api, namespace, "a")
        left = await ask(api, "GET", path)
        await ask(api, "PUT", f"{path}/finalize", left | {"spec": {"finalizers": []}})
        await until(lambda: key not in found.state)
        assert not [each for each in found.state if each.namespace == namespace]
        await until_fresh(api, found)


async def test_a_kind_comes_and_goes_with_its_crd(api: ApiServer, access: Access, namespace: str) -> None:
    kind = KINDS["policy.linkerd.io", "Server"]
    crd = crds.lax("policy.linkerd.io", "v1beta3", "Server", "servers")
    path = f"/apis/policy.linkerd.io/v1beta3/namespaces/{namespace}/servers"
    key = ObjectKey("policy.linkerd.io", "Server", namespace, "web")
    body = server("web") | {"apiVersion": "policy.linkerd.io/v1beta3"}
    async with follow(access, (*SOME, kind)) as found:
        assert found.source.behind == ()
        for _ in range(2):  # another one of the same name is followed as well
            await asyncio.to_thread(crds.install, api, crd)
            await ask(api, "POST", path, body)
            await until(lambda: key in found.state, 20.0)
            assert isinstance(found.state[key], Resource)
            await asyncio.to_thread(crds.remove, api, "servers.policy.linkerd.io")
            await until(lambda: key not in found.state, 20.0)
        await until(lambda: found.source.behind == (), 60.0)
        revisions = [dict(each.versions)["Server.policy.linkerd.io"] for each in found.batches]
        assert revisions == sorted(revisions)


async def test_a_pod_is_what_a_file_with_it_would_give(
    api: ApiServer, access: Access, namespace: str
) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "http"}}
    container = {
        "name": "app",
        "image": "localhost/app:1",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": probe,
        "env": [{"name": "SECRET", "value": "x"}],
    }
    await asyncio.to_thread(
        objects.create_pod,
        api,
        namespace,
        name="web",
        address="10.1.2.3",
        spec={"containers": [container]},
        metadata={
            "labels": {"app": "web"},
            "annotations": {"policyd.dev/default-access": "deny", "other": "x"},
        },
    )
    async with follow(access, FOLLOWED) as found:
        resource = found.state[ObjectKey("", "Pod", namespace, "web")]
        assert isinstance(resource, Resource)
        assert isinstance(resource.spec, Pod)
        assert resource.spec.status.addresses == ("10.1.2.3",)
        (made,) = resource.spec.spec.containers
        assert made.ports[0].container_port == 8080
        assert made.readiness_probe is not None
        assert made.env == ()
        assert resource.meta.annotations == {"policyd.dev/default-access": "deny"}
        shape = world_of(found).workloads.member(resource.key)
        assert shape is not None
        assert shape.shape is not None
        assert shape.shape.probes[0].target == "/ready"
        await until_fresh(api, found, FOLLOWED)
