"""What controllers and kubelets would make, made by a test: namespaces, accounts, pods on a node, tokens."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from tests.api.rig import ISSUER, ApiServer

NODE = "node0"
TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class Pod:
    """A pod that was created, as far as tests ask."""

    namespace: str
    name: str
    uid: str
    account: str


def unique(prefix: str) -> str:
    """Return a name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def create_namespace(api: ApiServer, name: str = "", labels: dict[str, str] | None = None) -> str:
    """Create a namespace with the ServiceAccount `default`; returns its name (a new one)."""
    name = name or unique("test")
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
    create_account(api, name, "default")
    return name


def create_account(api: ApiServer, namespace: str, name: str) -> str:
    """Create a ServiceAccount; returns its uid."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    uid: str = api.request("POST", path, {"metadata": {"name": name}})["metadata"]["uid"]
    return uid


def create_node(api: ApiServer, name: str = NODE) -> None:
    """Create a Node that is ready, so that pods can be bound to it."""
    api.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    patch_status(api, f"/api/v1/nodes/{name}", ready)


def create_pod(
    api: ApiServer, namespace: str, account: str = "default", *, name: str = "", **changes: Any
) -> Pod:
    """Create a Running pod of one container on `node0`. `changes`: spec=…, metadata=…, address=…."""
    name = name or unique("pod")
    spec = {
        "nodeName": NODE,
        "serviceAccountName": account,
        "containers": [{"name": "app", "image": "localhost/app:1"}],
        **changes.get("spec", {}),
    }
    body = {"metadata": {"name": name, **changes.get("metadata", {})}, "spec": spec}
    made = api.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    status: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    if "address" in changes:
        status |= {"podIP": changes["address"], "podIPs": [{"ip": changes["address"]}]}
    patch_status(api, f"/api/v1/namespaces/{namespace}/pods/{name}", status)
    return Pod(namespace, name, made["metadata"]["uid"], account)


def delete_pod(api: ApiServer, pod: Pod, *, grace_seconds: int = 0) -> None:
    """Delete a pod: with grace it stays, terminating, since no kubelet ends it."""
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
    api.request("DELETE", path, {"gracePeriodSeconds": grace_seconds})


def delete_account(api: ApiServer, namespace: str, name: str) -> None:
    api.request("DELETE", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")


def patch_status(api: ApiServer, path: str, status: dict[str, Any]) -> None:
    """Say what a kubelet would say of an object."""
    merge = {"Content-Type": "application/merge-patch+json"}
    api.request("PATCH", f"{path}/status", {"status": status}, **merge)


def pod_token(api: ApiServer, pod: Pod, audience: str, seconds: int = TOKEN_SECONDS) -> str:
    """Mint the token that a kubelet projects into a pod (TokenRequest, bound to the pod)."""
    bound = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
    return _token(
        api, pod.namespace, pod.account, {"audiences": [audience], "boundObjectRef": bound}, seconds
    )


def account_token(api: ApiServer, namespace: str, account: str, seconds: int = TOKEN_SECONDS) -> str:
    """Mint a token for the API server itself, for a part of the control plane."""
    return _token(api, namespace, account, {"audiences": [ISSUER]}, seconds)


def _token(api: ApiServer, namespace: str, account: str, spec: dict[str, Any], seconds: int) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    answer = api.request("POST", path, {"spec": {**spec, "expirationSeconds": seconds}})
    token: str = answer["status"]["token"]
    return token


def grant(api: ApiServer, namespace: str, account: str, *rules: dict[str, Any]) -> None:
    """Give an account a ClusterRole of these rules, in the whole cluster."""
    name = f"{namespace}-{unique(account)}"
    group = "/apis/rbac.authorization.k8s.io/v1"
    api.request("POST", f"{group}/clusterroles", {"metadata": {"name": name}, "rules": list(rules)})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": account}],
    }
    api.request("POST", f"{group}/clusterrolebindings", binding)
