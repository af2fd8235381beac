"""Denials as an API of the cluster: where the API server finds it, who may ask, and whom policyd believes."""

from __future__ import annotations

from typing import Any

from policyd.audit_api.names import (
    API_SERVICE,
    CONFIG_NAMESPACE,
    DENIALS,
    EXPLANATION,
    GROUP,
    GROUPS,
    VERSION,
)
from policyd.install.names import AUDIT_SECRET, POLICYD, meta
from policyd.install.ports import port

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
READERS = "policyd-denials-reader"
AUTHENTICATION = "policyd-authentication-reader"
PRIORITY = 1000
"""Of the group among others: behind those of Kubernetes, as it is usual for extensions."""


def audit_api(namespace: str) -> list[Object]:
    """Return the APIService. Gone first: while nobody answers for it, no namespace could be deleted."""
    service = {"name": POLICYD, "namespace": namespace, "port": port(POLICYD, "audit").service}
    return [
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": meta(API_SERVICE, POLICYD),
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "service": service,
                "groupPriorityMinimum": PRIORITY,
                "versionPriority": 15,
            },
        }
    ]


def audit_rights(namespace: str) -> list[Object]:
    """Return who may read denials (of a namespace: who may view it), and how policyd knows the caller.

    For that Kubernetes has a Role, of one ConfigMap in kube-system.
    """
    aggregated = {f"{RBAC}/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")}
    metadata = meta(READERS, POLICYD)
    reading = [
        {"apiGroups": [GROUP], "resources": [DENIALS], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [GROUP], "resources": [f"{DENIALS}/{EXPLANATION}"], "verbs": ["get"]},
        {"apiGroups": [GROUP], "resources": [GROUPS], "verbs": ["list"]},
    ]
    return [
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": metadata | {"labels": metadata["labels"] | aggregated},
            "rules": reading,
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": meta(AUTHENTICATION, POLICYD, CONFIG_NAMESPACE),
            "roleRef": {
                "apiGroup": RBAC,
                "kind": "Role",
                "name": "extension-apiserver-authentication-reader",
            },
            "subjects": [{"kind": "ServiceAccount", "name": POLICYD, "namespace": namespace}],
        },
    ]


def audit_secret(namespace: str) -> Object:
    """Return an empty Secret: policyd fills it, and needs no right to make Secrets."""
    metadata = meta(AUDIT_SECRET, POLICYD, namespace)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}
