"""The containers and volumes that make a pod a meshed one (research: identity, 6.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policyd.admission.annotations import CPU_LIMIT, CPU_REQUEST, LOG_LEVEL, MEMORY_LIMIT, MEMORY_REQUEST
from policyd.admission.injection import (
    ADMIN_PORT,
    INBOUND_PORT,
    OUTBOUND_PORT,
    PROXY,
    PROXY_GID,
    PROXY_UID,
    REDIRECT,
    TOKEN_SECONDS,
    TRUST_BUNDLE_KEY,
    VALIDATE,
    Injection,
    amount,
)
from policyd.admission.probes import SETTINGS
from policyd.model.names import TRUST_BUNDLE

COMMAND: Final = "/policyd-proxy"
TOKEN_FOLDER: Final = "/var/run/policyd/token"  # noqa: S105 - a folder
BUNDLE_FOLDER: Final = "/var/run/policyd/trust"
STATE_MOUNT: Final = "/var/run/policyd/state"
API_TOKEN_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder
VALIDATE_UID: Final = 65534
"""Of the step that tries the redirection: anybody but the proxy, and not root."""
STARTUP_TRIES: Final = 300
"""How many seconds a proxy may take to have identity and table before its container is started anew."""
LEAST_TRAFFIC_MIB: Final = 16
"""The least that the proxy takes for `memoryMib`."""

TOKEN_VOLUME = "policyd-token"  # noqa: S105 - a volume
BUNDLE_VOLUME = "policyd-trust"
_STATE_VOLUME = "policyd-state"
_NOTHING_VOLUME = "policyd-nothing"

Json = dict[str, Any]

_FIELDS: Mapping[str, str] = {
    "POD_NAMESPACE": "metadata.namespace",
    "POD_NAME": "metadata.name",
    "SERVICE_ACCOUNT": "spec.serviceAccountName",
}
"""Variables from the downward API, which the settings refer to."""

_POD_IP = "POD_IP"
"""Another, where there are probes to make: the address that the kubelet would ask."""


def init_containers(
    injection: Injection, annotations: Mapping[str, str], probes: Sequence[Json] = ()
) -> list[Json]:
    """Return our containers, in their order: redirect, try it, then the proxy, which also makes `probes`."""
    steps = [_validate(injection), _proxy(injection, annotations, probes)]
    return [_redirect(injection), *steps] if injection.redirect == "pod" else steps


def volumes(injection: Injection) -> list[Json]:
    """Return our volumes."""
    token = {
        "serviceAccountToken": {
            "audience": injection.audience,
            "expirationSeconds": TOKEN_SECONDS,
            "path": "token",
        }
    }
    bundle = {
        "configMap": {
            "name": TRUST_BUNDLE,
            "items": [{"key": TRUST_BUNDLE_KEY, "path": TRUST_BUNDLE_KEY}],
        }
    }
    state = {"medium": "Memory", "sizeLimit": injection.resources.state}
    return [
        {"name": TOKEN_VOLUME, "projected": {"sources": [token]}},
        {"name": BUNDLE_VOLUME, "projected": {"sources": [bundle]}},
        {"name": _STATE_VOLUME, "emptyDir": state},
        {"name": _NOTHING_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
    ]


def _base(injection: Injection, name: str, arguments: list[str]) -> Json:
    return {
        "name": name,
        "image": injection.image,
        "imagePullPolicy": injection.pull_policy,
        "command": [COMMAND, *arguments],
    }


def _security(user: int, group: int, capabilities: tuple[str, ...] = ()) -> Json:
    kept: Json = {"drop": ["ALL"]}
    if capabilities:
        kept["add"] = list(capabilities)
    return {
        "runAsUser": user,
        "runAsGroup": group,
        "runAsNonRoot": user != 0,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": kept,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _no_api_token() -> Json:
    """Nothing, mounted where the API server would put a token for itself."""
    return {"name": _NOTHING_VOLUME, "mountPath": API_TOKEN_FOLDER, "readOnly": True}


def _ports() -> list[str]:
    return [f"--inbound-port={INBOUND_PORT}", f"--outbound-port={OUTBOUND_PORT}", f"--uid={PROXY_UID}"]


def _redirect(injection: Injection) -> Json:
    """Write the pod's rules. As root, since only root's process gets a capability without a file's help."""
    return {
        **_base(injection, REDIRECT, ["redirect", *_ports()]),
        "resources": _small(),
        "securityContext": _security(0, 0, ("NET_ADMIN",)),
        "volumeMounts": [_no_api_token()],
    }


def _validate(injection: Injection) -> Json:
    return {
        **_base(injection, VALIDATE, ["redirect", "--check", *_ports()]),
        "resources": _small(),
        "securityContext": _security(VALIDATE_UID, VALIDATE_UID),
        "volumeMounts": [_no_api_token()],
    }


def _small() -> Json:
    """Resources of a step that ends at once: a pod's are the greatest of its steps', so they cost nothing."""
    return {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}}


def _proxy(injection: Injection, annotations: Mapping[str, str], probes: Sequence[Json]) -> Json:
    resources = _resources(injection, annotations)
    settings = proxy_settings(injection, resources["limits"]["memory"]) | _probing(probes)
    config = json.dumps(settings, separators=(",", ":"))
    told = {**_FIELDS, **({_POD_IP: "status.podIP"} if probes else {})}
    fields = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in told.items()]
    level = annotations.get(LOG_LEVEL, injection.log_level)
    return {
        **_base(injection, PROXY, ["--config", f"env:{SETTINGS}"]),
        "restartPolicy": "Always",
        "env": [
            *fields,
            {"name": "POLICYD_LOG", "value": f"warn,dataplane={level}"},
            {"name": SETTINGS, "value": config},
        ],
        "ports": [{"name": "policyd-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "startupProbe": {**_asks("/ready"), "periodSeconds": 1, "failureThreshold": STARTUP_TRIES},
        "readinessProbe": {**_asks("/ready"), "periodSeconds": 5, "timeoutSeconds": 2},
        "livenessProbe": {**_asks("/live"), "periodSeconds": 10, "timeoutSeconds": 2},
        "resources": resources,
        "securityContext": _security(PROXY_UID, PROXY_GID),
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": BUNDLE_VOLUME, "mountPath": BUNDLE_FOLDER, "readOnly": True},
            {"name": _STATE_VOLUME, "mountPath": STATE_MOUNT},
            _no_api_token(),
        ],
    }


def _asks(path: str) -> Json:
    return {"httpGet": {"path": path, "port": ADMIN_PORT}}


def _resources(injection: Injection, annotations: Mapping[str, str]) -> Json:
    """Return the proxy's resources; a limit is never under its request."""
    default = injection.resources
    cpu, memory = annotations.get(CPU_REQUEST, default.cpu_request), annotations.get(MEMORY_REQUEST)
    limit = annotations.get(MEMORY_LIMIT)
    if limit is None:
        limit = default.memory_limit if memory is None else _greater(memory, default.memory_limit)
    limits = {"memory": limit}
    cpu_limit = annotations.get(CPU_LIMIT, default.cpu_limit)
    if cpu_limit is not None:
        limits["cpu"] = cpu_limit
        cpu = _lesser(cpu, cpu_limit)
    return {
        "requests": {"cpu": cpu, "memory": _lesser(memory or default.memory_request, limit)},
        "limits": limits,
    }


def _greater(one: str, other: str) -> str:
    return one if amount(one) >= amount(other) else other


def _lesser(one: str, other: str) -> str:
    return one if amount(one) <= amount(other) else other


def proxy_settings(injection: Injection, memory_limit: str) -> Json:
    """Return the proxy's settings. The kubelet fills in what `$(…)` names (decision record 14)."""
    mib = int(amount(memory_limit) / 2**20)
    return {
        "trustDomain": _literal(injection.trust_domain),
        "namespace": "$(POD_NAMESPACE)",
        "serviceAccount": "$(SERVICE_ACCOUNT)",
        "podName": "$(POD_NAME)",
        "identity": {"address": _literal(injection.identity_address), "serviceAccount": "identity"},
        "policy": {"address": _literal(injection.policy_address), "serviceAccount": "policyd"},
        "controlPlaneNamespace": injection.control_plane,
        "tokenFile": f"{TOKEN_FOLDER}/token",
        "rootsFile": f"{BUNDLE_FOLDER}/{TRUST_BUNDLE_KEY}",
        "stateDir": f"{STATE_MOUNT}/proxy",
        "inbound": [],
        "outbound": [],
        "transparent": {"inbound": INBOUND_PORT, "outbound": OUTBOUND_PORT},
        "admin": f"127.0.0.1:{ADMIN_PORT}",
        "workers": injection.workers,
        "memoryMib": max(LEAST_TRAFFIC_MIB, mib // 4),
    }


def _probing(probes: Sequence[Json]) -> Json:
    """Return the settings of probes that the proxy makes; of a pod without such, none."""
    if not probes:
        return {}
    return {"podAddress": f"$({_POD_IP})", "probes": json.loads(_literal(json.dumps(probes)))}


def _literal(text: str) -> str:
    """Return text that the kubelet leaves as it is."""
    return text.replace("$", "$$")
