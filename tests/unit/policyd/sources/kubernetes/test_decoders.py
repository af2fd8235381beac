"""What is made of an API server's JSON, beside what a file with the same object gives."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from policyd.index.digests import digest
from policyd.model.names import ObjectKey
from policyd.resources.base import Document, Resource, Unreadable
from policyd.resources.read import read
from policyd.resources.registry import KINDS
from policyd.resources.workload import Pod, PodOwner
from policyd.sources import history
from policyd.sources.events import AnyObject
from policyd.sources.kubernetes.decoders import Decoders

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONTAINER = {
    "name": "app",
    "image": "app:1",
    "env": [{"name": "A", "value": "b"}],
    "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
    "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}, "creationTimestamp": None},
    "spec": {"serviceAccountName": "web", "containers": [CONTAINER]},
}


def meta(name: str = "web", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "shop",
        "uid": "u-1",
        "resourceVersion": "7",
        "labels": {"app": "web"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [
            {"manager": "kubectl", "time": "2026-01-01T12:00:00Z"},
            {"manager": "policyd", "time": "2026-01-02T00:00:00Z", "subresource": "status"},
            {"manager": "installer", "time": "2025-01-01T00:00:00Z"},
        ],
        **more,
    }


def decode(group: str, kind: str, version: str, content: dict[str, Any]) -> AnyObject:
    decoder = Decoders().of(KINDS[group, kind], version)
    return decoder(msgspec.Raw(json.dumps(content).encode()))


def from_file(group: str, kind: str, version: str, content: dict[str, Any]) -> AnyObject:
    api_version = f"{group}/{version}" if group else version
    found = read(Document({"apiVersion": api_version, "kind": kind, **content}))
    assert found is not None
    return found


STATUS = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.9", "phase": "Running"}
OWNED = meta(
    ownerReferences=[{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "controller": True}]
)
MANY: list[tuple[str, str, str, dict[str, Any]]] = [
    ("", "Pod", "v1", {"metadata": OWNED, "spec": TEMPLATE["spec"], "status": STATUS}),
    ("apps", "Deployment", "v1", {"metadata": meta(), "spec": {"replicas": 2, "template": TEMPLATE}}),
    ("apps", "DaemonSet", "v1", {"metadata": meta(), "spec": {"template": TEMPLATE}}),
    (
        "batch",
        "CronJob",
        "v1",
        {"metadata": meta(), "spec": {"jobTemplate": {"spec": {"template": TEMPLATE}}}},
    ),
    ("", "Namespace", "v1", {"metadata": {"name": "shop", "uid": "u", "labels": {"a": "b"}}}),
    ("", "ServiceAccount", "v1", {"metadata": meta()}),
    (
        "",
        "Service",
        "v1",
        {"metadata": meta(), "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}},
    ),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        "v1",
        {
            "metadata": meta(),
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}],
            "ports": None,
        },
    ),
    (
        "",
        "Node",
        "v1",
        {
            "metadata": {"name": "n", "uid": "u"},
            "spec": {"podCIDRs": ["10.1.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]},
        },
    ),
]


def lean(found: AnyObject) -> object:
    """What policy reads of an object: not how its containers are run."""
    spec = found.spec if isinstance(found, Resource) else None
    if isinstance(spec, Pod):
        return (spec.owners, spec.status, _ports(spec.spec))
    if isinstance(spec, PodOwner):
        return (spec.kind, spec.owners, spec.replicas, spec.template.metadata, _ports(spec.template.spec))
    return spec


def _ports(spec: Any) -> object:
    return spec.account, [(each.name, each.ports, each.named_probes) for each in spec.all_containers]


@pytest.mark.parametrize(("group", "kind", "version", "content"), MANY)
def test_kinds_that_are_many_are_what_files_give(
    group: str, kind: str, version: str, content: dict[str, Any]
) -> None:
    cluster, file = decode(group, kind, version, content), from_file(group, kind, version, content)
    assert isinstance(cluster, Resource)
    assert cluster.key == file.key
    assert lean(cluster) == lean(file)
    assert (cluster.meta.labels, cluster.meta.uid, cluster.meta.created) == (
        file.meta.labels,
        file.meta.uid,
        file.meta.created,
    )
    assert "managedFields" not in json.dumps(msgspec.to_builtins(cluster.document.content))


def test_what_nobody_reads_makes_no_other_object() -> None:
    group, kind, version, content = MANY[0]
    before = decode(group, kind, version, content)
    heartbeat = content | {"status": STATUS | {"conditions": [{"type": "Ready", "lastProbeTime": "now"}]}}
    heartbeat["metadata"] = OWNED | {"resourceVersion": "8", "annotations": {"other": "x"}}
    assert digest(decode(group, kind, version, heartbeat)) == digest(before)
    for changed in (
        content | {"metadata": OWNED | {"uid": "u-2"}},
        content | {"metadata": OWNED | {"labels": {"app": "db"}}},
        content | {"metadata": OWNED | {"annotations": {"policyd.dev/default-access": "deny"}}},
        content | {"metadata": OWNED | {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        content | {"status": STATUS | {"podIP": "10.0.0.2"}},
        content | {"spec": TEMPLATE["spec"] | {"serviceAccountName": "other"}},
    ):
        assert digest(decode(group, kind, version, changed)) != digest(before), changed


def test_nulls_are_what_they_are_in_a_file() -> None:
    content = {"metadata": meta(), "spec": {"containers": [CONTAINER | {"ports": None}]}, "status": None}
    found = decode("", "Pod", "v1", content)
    assert isinstance(found, Resource)
    assert found.spec.spec.containers[0].ports == ()


def test_ct_04_a_pod_that_is_none_is_unreadable_and_says_where() -> None:
    bad = {"metadata": meta(), "spec": {"containers": [CONTAINER | {"ports": [{"containerPort": "x"}]}]}}
    found = decode("", "Pod", "v1", bad)
    assert isinstance(found, Unreadable)
    assert found.key == ObjectKey("", "Pod", "shop", "web")
    assert found.findings[0].field.startswith("spec.containers")


def test_a_policy_keeps_what_its_author_said() -> None:
    spec = {"podSelector": {}, "port": 80}
    written = {"metadata": meta(generation=3), "spec": spec, "status": {"conditions": []}}
    found = decode("policyd.dev", "Server", "v1alpha1", written)
    assert isinstance(found, Resource)
    assert found.document.content == {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {
            name: value
            for name, value in meta(generation=3).items()
            if name not in {"managedFields", "resourceVersion"}
        },
        "spec": spec,
    }
    assert found.origin.text == "generation 3"
    assert history.written(found.origin) == history.Written(NOON, "kubectl")
    said = decode("policyd.dev", "Server", "v1alpha1", written | {"status": {"conditions": [{"type": "A"}]}})
    assert digest(said) == digest(found), "what we say of it ourselves doesn't make it another object"


def test_ct_04_a_policy_of_the_wrong_shape_is_unreadable() -> None:
    shapes: tuple[object, ...] = ({"podSelector": {}, "port": "nowhere at all"}, [], "text", None)
    for spec in shapes:
        found = decode("policyd.dev", "Server", "v1alpha1", {"metadata": meta(), "spec": spec})
        assert isinstance(found, Unreadable)
        assert found.problems


def test_equal_pods_share_their_containers() -> None:
    decoder = Decoders().of(KINDS["", "Pod"], "v1")
    content = MANY[0][3]
    one, other = (
        decoder(msgspec.Raw(json.dumps(content | {"metadata": OWNED | {"name": name}}).encode()))
        for name in ("a", "b")
    )
    assert isinstance(one, Resource)
    assert isinstance(other, Resource)
    assert one.spec.spec.containers is other.spec.spec.containers


def test_json_that_is_none_is_no_object() -> None:
    with pytest.raises(ValueError, match="truncated"):
        Decoders().of(KINDS["policyd.dev", "Server"], "v1alpha1")(msgspec.Raw(b"{"))
