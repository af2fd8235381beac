"""Manifests of the pods that tests put beside a sample's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SLEEPER: dict[str, Any] = {
    "name": "sleeper",
    "image": "policyd-test:0.1",
    "command": [sys.executable, "-c", "import signal; signal.pause()"],
}
"""A container that does nothing: its pod is there to be called from."""


def container(app: Path, ports: Mapping[str, int], **env: str) -> dict[str, Any]:
    """An application that gets `$POD_IP` and the first of its `ports`, as `$PORT`, ready once it accepts."""
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    told = {"PORT": str(next(iter(ports.values()))), **env}
    return {
        "name": next(iter(ports)),
        "image": "policyd-test:0.1",
        "command": [sys.executable, str(app)],
        "env": [address, *({"name": name, "value": value} for name, value in told.items())],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "readinessProbe": {"tcpSocket": {"port": list(ports)[-1]}, "periodSeconds": 1},
    }


def pod(name: str, namespace: str, *containers: Mapping[str, Any]) -> str:
    """Return the manifests of a Deployment of one replica with an account of its own, each ended by `---`."""
    labels = {"app": name}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(name, namespace)}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _named(name, namespace),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": name, "containers": list(containers)},
            },
        },
    }
    return _documents(account, deployment)


def service(name: str, namespace: str, *ports: str) -> str:
    """Return the manifest of the Service of a pod: its ports by name, from 80 on. Ended by `---`."""
    numbered = [{"name": port, "port": 80 + n, "targetPort": port} for n, port in enumerate(ports)]
    spec = {"selector": {"app": name}, "ports": numbered}
    return _documents(
        {"apiVersion": "v1", "kind": "Service", "metadata": _named(name, namespace), "spec": spec}
    )


def _named(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}


def _documents(*documents: Mapping[str, Any]) -> str:
    return "".join(yaml.safe_dump(dict(document), sort_keys=False) + "---\n" for document in documents)
