"""A large made-up cluster, as typed objects."""

from __future__ import annotations

import json
from typing import Any

from policyd.resources.read import read
from policyd.sources.events import AnyObject
from policyd.sources.yaml_documents import parse

WORKLOADS = 1_000
PODS_EACH = 10
POLICIES_EACH = 10
NAMESPACES = 50


def objects(workloads: int = WORKLOADS) -> list[AnyObject]:
    """Return workloads with their pods, a Server and policies each, read as a source reads them."""
    found: list[AnyObject] = []
    for number in range(workloads):
        content = "\n".join(f"---\n{json.dumps(document)}" for document in cluster_documents(number))
        read_objects = (read(document) for document in parse(content.encode(), "bench.yaml").documents)
        found += [item for item in read_objects if item is not None]
    return found


def cluster_documents(number: int) -> list[dict[str, Any]]:
    """Return a workload's Server, pods and policies."""
    namespace, name = f"ns-{number % NAMESPACES}", f"w{number}"
    labels = {"app": name}
    pods = [_pod(namespace, name, labels, pod) for pod in range(PODS_EACH)]
    return [
        _server(namespace, name, labels),
        *pods,
        *(policy(namespace, name, n) for n in range(POLICIES_EACH)),
    ]


def _server(namespace: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"podSelector": {"matchLabels": labels}, "port": 8080, "proxyProtocol": "HTTP/1"},
    }


def _pod(namespace: str, name: str, labels: dict[str, str], pod: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": f"{name}-{pod}",
            "uid": f"{namespace}-{name}-{pod}",
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "StatefulSet",
                    "name": name,
                    "uid": name,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "serviceAccountName": name,
            "containers": [{"name": "app", "ports": [{"containerPort": 8080, "name": "http"}]}],
        },
    }


def policy(namespace: str, name: str, number: int) -> dict[str, Any]:
    """Return an Allow on a workload's Server."""
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": namespace, "name": f"{name}-{number}"},
        "spec": {
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": name},
            "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": f"caller-{number}"}],
        },
    }
