"""The settings files of the three processes, and the settings of the install itself, as ConfigMaps."""

from __future__ import annotations

import json
from typing import Any

from policyd.admission.injection import Injection
from policyd.install.names import (
    AUDIT_SECRET,
    IDENTITY,
    INJECTOR,
    INJECTOR_SECRET,
    POLICYD,
    ROOTS,
    ROOTS_KEY,
    SETTINGS_KEY,
    STORED,
    STORED_KEY,
    VALIDATOR,
    WEBHOOKS,
    meta,
)
from policyd.install.places import ISSUER_FOLDER, ROOTS_FILE, STATE_FOLDER, TOKEN_FILE
from policyd.install.ports import METRICS, port
from policyd.install.settings import InstallSettings
from policyd.model.names import AUDIENCE


def config_maps(settings: InstallSettings, roots: str | None) -> list[dict[str, Any]]:
    """Return the ConfigMaps; the roots' one is left out where they are to stay as they are."""
    namespace = settings.namespace
    made = [
        _config_map(f"{IDENTITY}-settings", IDENTITY, namespace, {SETTINGS_KEY: _json(_identity(settings))}),
        _config_map(f"{POLICYD}-settings", POLICYD, namespace, {SETTINGS_KEY: _json(_policyd(settings))}),
        _config_map(f"{INJECTOR}-settings", INJECTOR, namespace, {SETTINGS_KEY: _json(_injector(settings))}),
        _config_map(STORED, None, namespace, {STORED_KEY: _stored_text(settings)}),
    ]
    if roots is not None:
        made.insert(0, _config_map(ROOTS, IDENTITY, namespace, {ROOTS_KEY: roots}))
    return made


def service_address(component: str, namespace: str) -> str:
    """Return `host:port` of a component's Service, as pods of any namespace resolve it."""
    return f"{component}.{namespace}.svc:{port(component, 'grpc').service}"


def stored(settings: InstallSettings) -> dict[str, Any]:
    """Return the settings as they are stored: all, so that a later version's defaults change nothing."""
    return settings.model_dump(mode="json", by_alias=True, exclude_none=True)


def _stored_text(settings: InstallSettings) -> str:
    """Return the stored settings as the chart's templates write them: one line, keys sorted."""
    return json.dumps(stored(settings), sort_keys=True, separators=(",", ":"))


def _identity(settings: InstallSettings) -> dict[str, Any]:
    return {
        "trustDomain": settings.trust_domain,
        "controlPlaneNamespace": settings.namespace,
        "listen": _everywhere(port(IDENTITY, "grpc").number),
        "metricsListen": _everywhere(METRICS),
        "issuerFolder": ISSUER_FOLDER,
        "journal": f"{STATE_FOLDER}/journal",
        "cluster": {"audience": AUDIENCE},
    }


def _policyd(settings: InstallSettings) -> dict[str, Any]:
    return {
        "trustDomain": settings.trust_domain,
        "namespace": settings.namespace,
        "listen": _everywhere(port(POLICYD, "grpc").number),
        "metricsListen": _everywhere(METRICS),
        "identity": {"address": service_address(IDENTITY, settings.namespace)},
        "tokenFile": TOKEN_FILE,
        "rootsFile": ROOTS_FILE,
        "stateDir": STATE_FOLDER,
        "cluster": {},
        "auditApi": {
            "listen": _everywhere(port(POLICYD, "audit").number),
            "service": POLICYD,
            "secret": AUDIT_SECRET,
        },
    }


def injection(settings: InstallSettings) -> dict[str, Any]:
    """Return what an install injects into pods, as `policyd.admission.injection` reads it."""
    images = settings.images
    return {
        "trustDomain": settings.trust_domain,
        "controlPlane": settings.namespace,
        "identityAddress": service_address(IDENTITY, settings.namespace),
        "policyAddress": service_address(POLICYD, settings.namespace),
        "audience": AUDIENCE,
        "image": f"{images.proxy}:{images.tag}",
        "pullPolicy": images.pull_policy,
    }


def injection_of(settings: InstallSettings) -> Injection:
    """Return what an install injects."""
    return Injection.model_validate(injection(settings))


def _injector(settings: InstallSettings) -> dict[str, Any]:
    return {
        "namespace": settings.namespace,
        "listen": _everywhere(port(INJECTOR, "webhook").number),
        "metricsListen": _everywhere(METRICS),
        "service": INJECTOR,
        "secret": INJECTOR_SECRET,
        "mutatingConfiguration": WEBHOOKS,
        "validatingConfiguration": VALIDATOR,
        "injection": injection(settings),
    }


def _everywhere(number: int) -> str:
    return f"0.0.0.0:{number}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _config_map(name: str, component: str | None, namespace: str, data: dict[str, str]) -> dict[str, Any]:
    metadata = meta(name, component, namespace)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
