"""Pods, their owners, and the rest of a cluster."""

# ruff: noqa: E501 - rows of tables stay on one line

from collections.abc import Callable
from typing import Any

import pytest

from policyd.resources.base import Resource, Unreadable

One = Callable[[str], Resource[Any] | Unreadable]

TEMPLATE = """
metadata: {labels: {app: web}, annotations: {policyd.dev/default-access: deny}}
spec:
  serviceAccountName: web
  containers:
  - name: app
    image: web:1
    command: [python, -m, web]
    args: ["--port=$(PORT)"]
    env: [{name: PORT, value: "8080"}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]
    readinessProbe: {httpGet: {path: "/ready?x=1", port: http, httpHeaders: [{name: X-A, value: b}]}, periodSeconds: 3}
    livenessProbe: {tcpSocket: {port: 8080}}
    startupProbe: {grpc: {port: 9090}}
    somethingNew: {a: b}
  initContainers:
  - {name: proxy, restartPolicy: Always, livenessProbe: {exec: {command: [true-ish]}}}
"""


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.strip().splitlines())


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_every_kind_of_owner(one: One, kind: str) -> None:
    version = "batch/v1" if kind in {"Job", "CronJob"} else "apps/v1"
    inner = f"  template:\n{indented(TEMPLATE, 4)}"
    if kind == "CronJob":
        inner = f"  jobTemplate:\n    spec:\n      template:\n{indented(TEMPLATE, 8)}"
    replicas = "  replicas: 3\n" if kind == "Deployment" else ""
    found = one(
        f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: web, namespace: books}}\nspec:\n{replicas}{inner}"
    )
    assert isinstance(found, Resource), [finding.text for finding in found.findings]
    pod = found.spec.template
    assert found.spec.replicas == (3 if kind == "Deployment" else None)
    assert pod.metadata.labels == {"app": "web"}
    assert pod.spec.account == "web"
    (container,) = pod.spec.containers
    assert [(port.name, port.container_port, port.protocol) for port in container.ports] == [
        ("http", 8080, "TCP"),
        ("", 53, "UDP"),
    ]
    liveness, readiness, startup = (probe for _, probe in container.named_probes)
    assert liveness.tcp_socket.port == 8080
    assert (readiness.http_get.port, readiness.http_get.path) == ("http", "/ready?x=1")
    assert startup.grpc.port == 9090
    assert pod.spec.init_containers[0].named_probes[0][1].http_get is None


def test_a_pod(one: One) -> None:
    found = one("""
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: books
  uid: u-1
  labels: {app: web}
  deletionTimestamp: 2026-11-21T12:00:00Z
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-abc, uid: u-2, controller: true}]
spec: {containers: [{name: a, env: null}], nodeName: n}
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}], phase: Running}
""")
    assert isinstance(found, Resource)
    assert found.spec.owners[0].kind == "ReplicaSet"
    assert found.spec.status.addresses == ("10.0.0.1", "fd00::1")
    assert found.spec.spec.account == "default"
    assert found.meta.deletion is not None


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ("{name: a, ports: [{containerPort: '80'}]}", "spec.containers[0].ports[0].containerPort"),
        ("{name: a, ports: [{containerPort: 0}]}", "spec.containers[0].ports[0].containerPort"),
        ("{name: a, readinessProbe: {httpGet: {path: /}}}", "spec.containers[0].readinessProbe.httpGet"),
        ("[]", "spec.containers[0]"),
    ],
)
def test_a_pod_that_cannot_be_read(one: One, container: str, field: str) -> None:
    found = one(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{container}]}}")
    assert isinstance(found, Unreadable)
    assert [problem.field for problem in found.problems] == [field]


def test_what_else_a_cluster_has(one: One) -> None:
    namespace = one("apiVersion: v1\nkind: Namespace\nmetadata: {name: books, labels: {a: b}}")
    assert (namespace.key.text, namespace.meta.labels) == ("namespace/books", {"a": "b"})
    account = one("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: books}")
    assert account.key.text == "serviceaccount/books/web"
    service = one("""
apiVersion: v1
kind: Service
metadata: {name: web, namespace: books}
spec: {selector: {app: web}, clusterIP: None, ports: [{port: 80, targetPort: http}, {name: x, port: 81, targetPort: 8081}]}
""")
    assert isinstance(service, Resource)
    assert [port.target_port for port in service.spec.ports] == ["http", 8081]
    node = one("""
apiVersion: v1
kind: Node
metadata: {name: n}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 10.0.0.2}, {type: Hostname, address: n}]}
""")
    assert isinstance(node, Resource)
    assert (node.spec.pod_cidrs, node.spec.ips) == (("10.1.0.0/24",), ("10.0.0.2",))
    endpoints = one("""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: books, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1, uid: u}}]
ports: [{name: http, port: 8080, protocol: TCP}]
""")
    assert isinstance(endpoints, Resource)
    assert endpoints.spec.endpoints[0].target_ref.name == "web-1"
    assert endpoints.spec.ports[0].port == 8080
