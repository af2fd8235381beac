"""The rules as policyd reads them, and the two pods: a server and a client, each with its proxy."""

from __future__ import annotations

import json
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bench.proxies.model import CLIENT, METHOD, NAMESPACE, SERVER, Rule, rules

PORT = 8080
SERVICE_PORT = 80
_RULES_A_FILE = 500
_GROUP = "policyd.dev"
_GATEWAY = "gateway.networking.k8s.io"

Manifest = dict[str, Any]


def write_manifests(folder: Path, count: int) -> None:
    """Write a folder that policyd can read: workloads, a Server, and a route with an Allow for each rule."""
    folder.mkdir()
    _write(folder / "workloads.yaml", [*_workload(SERVER), *_workload(CLIENT), _service(), _server()])
    left = rules(count)
    for number in range(0, count, _RULES_A_FILE):
        batch = islice(left, _RULES_A_FILE)
        _write(folder / f"rules-{number:06}.yaml", list(chain.from_iterable(map(_rule, batch))))


def pod(account: str, uid: str, address: str) -> Manifest:
    """Return a running pod of one of the two workloads, with a proxy in it."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": account, "uid": "", "controller": True}
    spec = _pod_spec(account)
    spec["containers"].append({"name": "policyd-proxy", "image": "policyd-proxy"})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(account),
            "namespace": NAMESPACE,
            "uid": uid,
            "labels": {"app": account},
            "ownerReferences": [owner],
        },
        "spec": {**spec, "nodeName": "loopback"},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def pod_name(account: str) -> str:
    """Return the name of an account's only pod."""
    return f"{account}-0"


def _write(file: Path, documents: list[Manifest]) -> None:
    # JSON is YAML, and the quickest to read of it.
    file.write_text("".join(f"---\n{json.dumps(document)}\n" for document in documents))


def _workload(account: str) -> list[Manifest]:
    template = {"metadata": {"labels": {"app": account}}, "spec": _pod_spec(account)}
    selector = {"matchLabels": {"app": account}}
    return [
        _object("v1", "ServiceAccount", account),
        _object("apps/v1", "Deployment", account, {"selector": selector, "template": template}),
    ]


def _pod_spec(account: str) -> Manifest:
    ports = [{"name": "http", "containerPort": PORT}]
    return {"serviceAccountName": account, "containers": [{"name": "app", "image": "app", "ports": ports}]}


def _service() -> Manifest:
    ports = [{"name": "http", "port": SERVICE_PORT, "targetPort": "http"}]
    return _object("v1", "Service", SERVER, {"selector": {"app": SERVER}, "ports": ports})


def _server() -> Manifest:
    spec = {"podSelector": {"matchLabels": {"app": SERVER}}, "port": "http", "proxyProtocol": "unknown"}
    return _object(f"{_GROUP}/v1alpha1", "Server", SERVER, spec)


def _rule(rule: Rule) -> list[Manifest]:
    name = f"svc{rule.number}"
    match = {"path": {"type": "PathPrefix", "value": rule.prefix}, "method": METHOD}
    route = {
        "parentRefs": [{"group": _GROUP, "kind": "Server", "name": SERVER}],
        "rules": [{"matches": [match]}],
    }
    allow = {
        "targetRef": {"group": _GATEWAY, "kind": "HTTPRoute", "name": name},
        "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": rule.account}],
    }
    return [
        _object(f"{_GATEWAY}/v1", "HTTPRoute", name, route),
        _object(f"{_GROUP}/v1alpha1", "AuthorizationPolicy", name, allow),
    ]


def _object(version: str, kind: str, name: str, spec: Manifest | None = None) -> Manifest:
    made: Manifest = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
    }
    return made if spec is None else {**made, "spec": spec}
