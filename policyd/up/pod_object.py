"""A pod as the API server would show it, for the folder that policyd and identity watch."""

from __future__ import annotations

from typing import Any

from policyd.model.names import PROXY_CONTAINER, ObjectKey
from policyd.up.addresses import PodAddresses
from policyd.up.plan import Template

NODE = "loopback"


def pod_manifest(
    template: Template, name: str, uid: str, addresses: PodAddresses, ready: bool
) -> dict[str, Any]:
    """Return the manifest. `status.podIP` is where the pod is called: its proxy's address."""
    owner = template.owner
    containers = [
        *template.written.get("containers", ()),
        {"name": PROXY_CONTAINER, "image": PROXY_CONTAINER},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "uid": uid,
            "labels": dict(template.labels),
            "annotations": dict(template.annotations),
            "ownerReferences": _owners(owner),
        },
        "spec": {
            **template.written,
            "serviceAccountName": template.account,
            "nodeName": NODE,
            "containers": containers,
        },
        "status": {
            "phase": "Running" if ready else "Pending",
            "podIP": addresses.proxy,
            "podIPs": [{"ip": addresses.proxy}],
        },
    }


def _owners(owner: ObjectKey) -> list[dict[str, Any]]:
    if owner.kind == "Pod":
        return []
    version = f"{owner.group}/v1" if owner.group else "v1"
    reference = {"apiVersion": version, "kind": owner.kind, "name": owner.name, "uid": "", "controller": True}
    return [reference]


def control_plane_pod(namespace: str, account: str, uid: str) -> dict[str, Any]:
    """Return the manifest of policyd's own pod, so that identity knows whom it certifies."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{account}-0", "namespace": namespace, "uid": uid},
        "spec": {"serviceAccountName": account, "nodeName": NODE, "containers": []},
        "status": {"phase": "Running"},
    }


def node_manifest(address: str) -> dict[str, Any]:
    """Return the manifest of the one node: its address is where probes come from."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
