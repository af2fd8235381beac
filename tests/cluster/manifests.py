"""Workloads that tests run: a server that answers on three ports, and callers that do what they are told."""

from __future__ import annotations

from typing import Any

IMAGE = "policyd-emojivoto:0.1"
HTTP, GRPC, TCP = 8080, 8081, 7000
PORTS = (("http", HTTP), ("grpc", GRPC), ("tcp", TCP))
ENROLLED = {"policyd.dev/inject": "enabled"}
_IDLE = "import signal as s, threading as t; o = t.Event(); s.signal(15, lambda *_: o.set()); o.wait()"

Object = dict[str, Any]


def namespace(name: str, *, enrolled: bool) -> Object:
    """A namespace, with the label that has proxies put into its pods or without it."""
    labels = ENROLLED if enrolled else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def server(space: str, name: str = "server", replicas: int = 1) -> list[Object]:
    """A server's account, Service and Deployment; an HTTP probe on one port, which the kubelet makes."""
    ports = [{"name": each, "port": number, "targetPort": each} for each, number in PORTS]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"selector": {"app": name}, "ports": ports},
    }
    container = {
        "command": ["python3", "/tests/server.py"],
        "ports": [{"name": each, "containerPort": number} for each, number in PORTS],
        "readinessProbe": {"httpGet": {"path": "/probe", "port": "http"}, "periodSeconds": 1},
        # As applications have it that lose no request: others hear of the end before it comes.
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
    }
    return [_account(space, name), service, _deployment(space, name, container, replicas)]


def caller(space: str, name: str) -> list[Object]:
    """A caller's account and Deployment; it waits to be told what to call."""
    return [_account(space, name), _deployment(space, name, {"command": ["python3", "-c", _IDLE]}, 1)]


def _account(space: str, name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": space}}


def _deployment(space: str, name: str, container: Object, replicas: int) -> Object:
    # Pods are replaced one at a time, each new one ready before an old one goes.
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    image = {"name": "app", "image": IMAGE, "imagePullPolicy": "Never", **container}
    pod = {"serviceAccountName": name, "terminationGracePeriodSeconds": 10, "containers": [image]}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "replicas": replicas,
            "strategy": rolling,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }
