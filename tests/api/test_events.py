"""Events that a real policyd writes: of what Linkerd's kinds and pods have no status for, and of denials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.api import crds, objects
from tests.api.policyd_process import Policyd, real_crds, running
from tests.api.proxies import deliver, mesh, meshed
from tests.api.rig import ApiServer
from tests.process.audit_client import identifier

LINKERD = "policy.linkerd.io"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(api: ApiServer) -> Iterator[ApiServer]:
    real_crds(api)
    with crds.lent(
        api,
        crds.lax(LINKERD, "v1beta3", "Server", "servers"),
        crds.lax(LINKERD, "v1alpha1", "HTTPLocalRateLimitPolicy", "httplocalratelimitpolicies"),
        crds.lax(LINKERD, "v1beta1", "ServerAuthorization", "serverauthorizations"),
        crds.lax("workload.linkerd.io", "v1beta1", "ExternalWorkload", "externalworkloads"),
    ):
        yield api


@pytest.fixture(scope="module")
def policyd(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policyd]:
    namespace = objects.create_namespace(cluster)
    with running(cluster, tmp_path_factory.mktemp("policyd"), namespace) as made:
        made.wait(lambda: made.leads, 90.0)
        yield made


def events(api: ApiServer, namespace: str) -> list[Json]:
    found: list[Json] = api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    return found


def told(api: ApiServer, namespace: str) -> set[tuple[str, str, str]]:
    return {
        (each["regarding"]["kind"], each["regarding"]["name"], each["reason"])
        for each in events(api, namespace)
    }


def test_linkerds_kinds_and_workloads_get_events(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    def linkerd(kind: str, version: str, name: str, spec: Json, group: str = LINKERD) -> Json:
        meta = {"name": name, "namespace": namespace}
        return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": meta, "spec": spec}

    probe = {"httpGet": {"scheme": "HTTPS", "port": 80}}
    container = {"name": "a", "image": "localhost/a:1", "livenessProbe": probe}
    labels = {"app": "web"}
    cluster.apply(
        linkerd("Server", "v1beta3", "odd", {"podSelector": {}, "port": 80, "acessPolicy": "deny"}),
        linkerd("Server", "v1beta3", "idle", {"podSelector": {"matchLabels": {"app": "no"}}, "port": 81}),
        linkerd(
            "ServerAuthorization",
            "v1beta1",
            "lost",
            {"server": {"name": "no"}, "client": {"unauthenticated": True}},
        ),
        linkerd(
            "HTTPLocalRateLimitPolicy",
            "v1alpha1",
            "limits",
            {
                "targetRef": {"group": LINKERD, "kind": "Server", "name": "idle"},
                "total": {"requestsPerSecond": 5},
            },
        ),
        linkerd(
            "ExternalWorkload",
            "v1beta1",
            "foreign",
            {
                "meshTLS": {"identity": "spiffe://cluster.local/ns/other/sa/x", "serverName": "x.test"},
                "workloadIPs": [{"ip": "10.9.9.9"}],
            },
            "workload.linkerd.io",
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": {"policyd.dev/default-access": "maybe"}},
                    "spec": {"containers": [container]},
                },
            },
        },
    )
    wanted = {
        ("Server", "odd", "UnknownField"),
        ("Server", "idle", "SelectsNothing"),
        ("ServerAuthorization", "lost", "TargetNotFound"),
        ("HTTPLocalRateLimitPolicy", "limits", "NotEnforced"),
        ("ExternalWorkload", "foreign", "IdentityNotOwn"),
        ("Deployment", "web", "UnknownAnnotationValue"),
        ("Deployment", "web", "ProbeNotExempt"),
    }
    policyd.wait(lambda: wanted <= told(cluster, namespace), 60.0)
    shown = cluster.kubectl("describe", f"servers.{LINKERD}", "odd", "-n", namespace)
    assert "did you mean accessPolicy?" in shown
    kinds = {each["kind"] for each in (found["regarding"] for found in events(cluster, namespace))}
    assert "AuthorizationPolicy" not in kinds
    counted = {found["metadata"]["name"]: found.get("series") for found in events(cluster, namespace)}
    objects.create_account(cluster, namespace, "somebody")  # another look at everything
    policyd.wait(lambda: True)
    again = {found["metadata"]["name"]: found.get("series") for found in events(cluster, namespace)}
    assert again == counted, "what lasts is told once"


def denial(workload: str, pod: str, namespace: str, **more: Any) -> Json:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "event": "denial",
        "time": at,
        "id": identifier(),
        "direction": "inbound",
        "workload": f"deployment/{namespace}/{workload}",
        "namespace": namespace,
        "pod": pod,
        "port": 80,
        "verdict": "deny",
        "reason": "no_matching_rule",
        "authorization": None,
        "peer": {"ip": "10.0.0.7", "identity": "spiffe://cluster.local/ns/shop/sa/till"},
        "request": {"method": "GET", "path": "/secret/abc", "host": "web", "version": "1.1"},
        **more,
    }


async def test_a_denial_is_an_event_on_the_workload_once_a_minute_for_each_cause(
    api: ApiServer, namespace: str, tmp_path: Path
) -> None:
    """Delivered over a real audit stream, by a pod with a real certificate."""
    await asyncio.to_thread(real_crds, api)
    with mesh(api, tmp_path) as some:
        pod = await asyncio.to_thread(meshed, api, namespace, "web", "web-0")
        policyd = await asyncio.to_thread(some.policyd, "policyd-0")
        policyd.start()
        try:
            await asyncio.to_thread(policyd.wait_serving)
            same = [denial("web", "web-0", namespace) for _ in range(300)]
            other = denial("web", "web-0", namespace, reason="explicit_deny")
            await deliver(some, policyd, pod, *same, other)
            await asyncio.to_thread(policyd.wait, lambda: len(denied(api, namespace)) == 2)
            written = 'policyd_events_total{about="denial",result="written"}'
            assert policyd.metric(written) == 2
        finally:
            await asyncio.to_thread(policyd.stop)
        found = denied(api, namespace)
        assert len(found) == 2, "300 of one cause are one Event"
        assert {each["regarding"]["kind"] for each in found} == {"Deployment"}
        assert {each["related"]["name"] for each in found} == {"web-0"}
        notes = "\n".join(each["note"] for each in found)
        ids = {each["id"] for each in (*same, other)}
        assert all(each["note"].rpartition(" ")[2] in ids for each in found)
        assert "policyctl explain" in notes
        assert "secret" not in json.dumps(found)
        shown = api.kubectl("describe", "deployment", "web", "-n", namespace)
        assert "no_matching_rule: spiffe://cluster.local/ns/shop/sa/till, request on port 80" in shown


def denied(api: ApiServer, namespace: str) -> list[Json]:
    return [each for each in events(api, namespace) if each["reason"] == "Denied"]
