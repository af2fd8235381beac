"""Deployments, Services and what keeps them up. Every pod fits the Pod Security profile `restricted`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from policyd.install.names import (
    AUDIT_CLAIM,
    COMPONENTS,
    IDENTITY,
    INJECTOR,
    ISSUER_SECRET,
    POLICYD,
    ROOTS,
    ROOTS_KEY,
    RUN_AS,
    SETTINGS_KEY,
    labels,
    meta,
    selector,
)
from policyd.install.places import (
    AUDIT_CONNECTION,
    AUDIT_FOLDER,
    ISSUER_FOLDER,
    ROOTS_FOLDER,
    SCRATCH_FOLDER,
    SETTINGS_FILE,
    SETTINGS_FOLDER,
    STATE_FOLDER,
    TOKEN_FOLDER,
)
from policyd.install.ports import ports_of
from policyd.install.settings import InstallSettings, Resources
from policyd.model.names import AUDIENCE

Object = dict[str, Any]
HA_REPLICAS = 2
TOKEN_SECONDS = 3600
"""Lifetime of policyd's own token; the kubelet renews it at 80 %."""
PRIORITY = "system-cluster-critical"
"""Pods of an enrolled namespace can't start without us. Allowed outside kube-system since Kubernetes 1.17."""
MOST_PODS = "32"
"""Of that priority in our namespace: three components, two replicas, and as many while they are replaced."""
STATE_LIMIT = {IDENTITY: "256Mi", POLICYD: "2Gi"}
"""Of emptyDirs: identity's journal; policyd's audit store (1 GiB at most) and its basis."""
SCRATCH_LIMIT = "64Mi"
GRACE_SECONDS = 30
LEAVE_SECONDS = 3
"""A pod that is to end goes on serving so long, until no node's Services lead to it any more (of the 30)."""
PROGRAM = {IDENTITY: "identity", POLICYD: "policyd", INJECTOR: "policyd-injector"}
SERVING = {IDENTITY: "grpc", POLICYD: "grpc", INJECTOR: "webhook"}
"""The port whose listening says that a component is ready: none listens before it can answer."""


def service_accounts(namespace: str) -> list[Object]:
    """Return a ServiceAccount per component. Tokens are mounted by the pods that need one, not by default."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": meta(component, component, namespace),
            "automountServiceAccountToken": False,
        }
        for component in COMPONENTS
    ]


def services(namespace: str) -> list[Object]:
    """Return a Service per component, reached within the cluster only."""
    return [_service(component, namespace) for component in COMPONENTS]


def _service(component: str, namespace: str) -> Object:
    ports = [
        {"name": each.name, "port": each.service, "protocol": "TCP", "targetPort": each.name}
        for each in ports_of(component)
        if each.service is not None
    ]
    spec = {"type": "ClusterIP", "selector": selector(component), "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(component, component, namespace),
        "spec": spec,
    }


def claims(settings: InstallSettings) -> list[Object]:
    """Return the claim of policyd's audit store, where there is to be one."""
    audit = settings.audit
    if audit.kind != "claim":
        return []
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": audit.size}},
    }
    if audit.storage_class is not None:
        spec["storageClassName"] = audit.storage_class
    metadata = meta(AUDIT_CLAIM, POLICYD, settings.namespace)
    return [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}]


def budgets(settings: InstallSettings) -> list[Object]:
    """Return a PodDisruptionBudget per component where there are two replicas; one alone could never move."""
    if not settings.ha:
        return []
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta(component, component, settings.namespace),
            "spec": {"minAvailable": 1, "selector": {"matchLabels": selector(component)}},
        }
        for component in COMPONENTS
    ]


def quota(namespace: str) -> Object:
    """Return the right to pods of our priority: some clusters give it to nobody who has no quota for it."""
    term = {"scopeName": "PriorityClass", "operator": "In", "values": [PRIORITY]}
    spec = {"hard": {"pods": MOST_PODS}, "scopeSelector": {"matchExpressions": [term]}}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": meta("critical-pods", None, namespace),
        "spec": spec,
    }


def deployments(settings: InstallSettings, config_maps: Sequence[Object]) -> list[Object]:
    """Return a Deployment per component. A change of its settings file replaces its pods."""
    texts = {each["metadata"]["name"]: each["data"].get(SETTINGS_KEY, "") for each in config_maps}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    return [_deployment(component, settings, digests[f"{component}-settings"]) for component in COMPONENTS]


def _deployment(component: str, settings: InstallSettings, digest: str) -> Object:
    # One claim can't be held by an old pod and a new one.
    alone = component == POLICYD and settings.audit.kind == "claim"
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    template = {
        "metadata": {
            "labels": labels(component),
            "annotations": {"policyd.dev/settings": digest},
        },
        "spec": _pod(component, settings),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(component, component, settings.namespace),
        "spec": {
            "replicas": HA_REPLICAS if settings.ha else 1,
            "revisionHistoryLimit": 5,
            "strategy": {"type": "Recreate"} if alone else rolling,
            "selector": {"matchLabels": selector(component)},
            "template": template,
        },
    }


def _pod(component: str, settings: InstallSettings) -> Object:
    volumes = _volumes(component, settings)
    pod: Object = {
        "serviceAccountName": component,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "priorityClassName": PRIORITY,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUN_AS,
            "runAsGroup": RUN_AS,
            "fsGroup": RUN_AS,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "containers": [_container(component, settings, volumes)],
        "volumes": [volume for volume, _ in volumes],
    }
    if settings.ha:
        pod["topologySpreadConstraints"] = _spread(component)
    return pod


def _spread(component: str) -> list[Object]:
    """Keep replicas on nodes of their own as long as there are two that take pods, and in zones if possible.

    Only replicas of one version are kept apart: two nodes are enough to replace them one by one. On a single
    node, or while the only other one is drained or dead, both may be on it, rather than one of them nowhere.
    """
    spread = {
        "maxSkew": 1,
        "labelSelector": {"matchLabels": selector(component)},
        "matchLabelKeys": ["pod-template-hash"],
        "nodeTaintsPolicy": "Honor",
    }
    return [
        spread | {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"},
        spread | {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"},
    ]


def _container(component: str, settings: InstallSettings, volumes: Sequence[tuple[Object, str]]) -> Object:
    images = settings.images
    resources: Resources = getattr(settings.resources, component)
    return {
        "name": component,
        "image": f"{images.control_plane}:{images.tag}",
        "imagePullPolicy": images.pull_policy,
        "command": _command(component, settings),
        "ports": [
            {"name": each.name, "containerPort": each.number, "protocol": "TCP"}
            for each in ports_of(component)
        ],
        "startupProbe": {
            "tcpSocket": {"port": SERVING[component]},
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
        "readinessProbe": {"tcpSocket": {"port": SERVING[component]}, "periodSeconds": 5},
        "livenessProbe": {
            "httpGet": {"path": "/metrics", "port": "metrics"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        "resources": {
            "requests": {"cpu": resources.cpu, "memory": resources.memory},
            "limits": {"memory": resources.limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [_mount(volume["name"], place) for volume, place in volumes],
    }


def _command(component: str, settings: InstallSettings) -> list[str]:
    command = [PROGRAM[component], "--config", SETTINGS_FILE]
    if component == POLICYD and settings.audit.kind == "postgres":
        command += ["--audit-postgres", AUDIT_CONNECTION]
    return command


def _mount(name: str, place: str) -> Object:
    mount: Object = {"name": name, "mountPath": place}
    return mount if place in (STATE_FOLDER, SCRATCH_FOLDER) else mount | {"readOnly": True}


def _volumes(component: str, settings: InstallSettings) -> list[tuple[Object, str]]:
    """Return a pod's volumes, each with the place where it is mounted."""
    named = {"name": f"{component}-settings"}
    volumes: list[tuple[Object, str]] = [
        ({"name": "settings", "configMap": named}, SETTINGS_FOLDER),
        ({"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}}, SCRATCH_FOLDER),
    ]
    if component == IDENTITY:
        volumes.append((_issuer_volume(), ISSUER_FOLDER))
    if component == POLICYD:
        roots = {"name": "roots", "configMap": {"name": ROOTS}}
        volumes += [(roots, ROOTS_FOLDER), (_token_volume(), TOKEN_FOLDER)]
    if component == POLICYD and settings.audit.kind == "postgres":
        connection = {"secretName": settings.audit.secret, "defaultMode": 0o440}
        volumes.append(({"name": "audit", "secret": connection}, AUDIT_FOLDER))
    if component in STATE_LIMIT:
        volumes.append((_state_volume(component, settings), STATE_FOLDER))
    return volumes


def _issuer_volume() -> Object:
    keys = {"name": ISSUER_SECRET, "items": [_item("tls.crt", "issuer.crt"), _item("tls.key", "issuer.key")]}
    roots = {"name": ROOTS, "items": [_item(ROOTS_KEY, "root.crt")]}
    # 0440: the files are root's and the process's group's (fsGroup); nobody else is in the container.
    sources = {"defaultMode": 0o440, "sources": [{"secret": keys}, {"configMap": roots}]}
    return {"name": "issuer", "projected": sources}


def _item(key: str, path: str) -> Object:
    return {"key": key, "path": path}


def _token_volume() -> Object:
    token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def _state_volume(component: str, settings: InstallSettings) -> Object:
    if component == POLICYD and settings.audit.kind == "claim":
        return {"name": "state", "persistentVolumeClaim": {"claimName": AUDIT_CLAIM}}
    return {"name": "state", "emptyDir": {"sizeLimit": STATE_LIMIT[component]}}
