"""Probes by HTTPS, which the injector points at the proxy: the kubelet asks in plaintext, the proxy by TLS.

A probe that is answered before any policy comes in plaintext (semantics T6): what TLS hides can't be told
apart. What was declared stands in the proxy's settings, which lie in the pod: there a second injection and
`uninject` find it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from policyd.admission.annotations import Problem
from policyd.admission.injection import ADMIN_PORT, CONTAINERS, PROXY
from policyd.index.pod_shapes import by_tls, port_number
from policyd.resources.spec import shown
from policyd.resources.workload import Container, Probe

Json = dict[str, Any]

PREFIX: Final = "/probes/"
SETTINGS: Final = "POLICYD_PROXY_CONFIG"
"""The variable that holds the proxy's settings."""
_LISTS: Final = ("initContainers", "containers")
_FIELDS: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_TOLD: Final = {"port": ADMIN_PORT, "scheme": "HTTP"}
_DEFAULT_SECONDS: Final = 1
"""How long the kubelet waits where nothing is written."""


def pointed(container: Container, written: Mapping[str, Any]) -> tuple[Json, list[Json]]:
    """Return a container whose probes by TLS ask the proxy, and what the proxy must ask for them."""
    changed, asked = dict(written), []
    for field, probe in container.named_probes:
        if not by_tls(probe, container):
            continue
        entry = _entry(f"{PREFIX}{container.name}/{field}", container, probe, written[field])
        changed[field] = {**written[field], "httpGet": {**_TOLD, "path": entry["path"]}}
        asked.append(entry)
    return changed, asked


def _entry(path: str, container: Container, probe: Probe, written: Mapping[str, Any]) -> Json:
    declared = probe.http_get
    assert declared is not None  # noqa: S101 - by_tls says so
    return {
        "path": path,
        "port": port_number(declared.port, container),
        "timeoutSeconds": written.get("timeoutSeconds", _DEFAULT_SECONDS),
        "httpGet": written["httpGet"],
    }


def restored(spec: Mapping[str, Any]) -> Mapping[str, Any] | Problem:
    """Return a pod's spec with its probes as they were declared; a problem where nobody says how."""
    declared = _declared(spec)
    after = dict(spec)
    for name in _LISTS:
        if name not in spec:
            continue
        containers = []
        for index, each in enumerate(spec[name]):
            found = _restored_container(each, declared)
            if isinstance(found, Problem):
                return Problem(f"spec.{name}[{index}].{found.field}", found.message)
            containers.append(found)
        after[name] = containers
    return after


def _restored_container(
    written: Mapping[str, Any], declared: Mapping[str, Any]
) -> Mapping[str, Any] | Problem:
    if written.get("name") in CONTAINERS:
        return written
    after = dict(written)
    for field, path in _at_the_proxy(written):
        if path not in declared or path != f"{PREFIX}{written.get('name')}/{field}":
            message = f"{shown(path)}: the path is the injector's, and the proxy has no such probe"
            return Problem(f"{field}.httpGet.path", message)
        after[field] = {**written[field], "httpGet": declared[path]}
    return after


def _at_the_proxy(written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in _FIELDS:
        get = (written.get(field) or {}).get("httpGet") or {}
        path = get.get("path") or ""
        if get.get("port") == ADMIN_PORT and path.startswith(PREFIX):
            yield field, path


def _declared(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return `httpGet` of each probe that the settings of the pod's proxy speak of, by path."""
    for container in spec.get("initContainers") or ():
        if container.get("name") != PROXY:
            continue
        for variable in container.get("env") or ():
            if variable.get("name") == SETTINGS:
                return _of_settings(variable.get("value"))
    return {}


def _of_settings(value: object) -> dict[str, Any]:
    """Read what may be anybody's text: whatever isn't ours is refused later, where settings are compared."""
    try:
        settings = json.loads(str(value).replace("$$", "$"))
    except ValueError:
        return {}
    probes = settings.get("probes") if isinstance(settings, dict) else None
    return {
        each["path"]: each["httpGet"]
        for each in (probes if isinstance(probes, list) else ())
        if isinstance(each, dict)
        and isinstance(each.get("path"), str)
        and isinstance(each.get("httpGet"), dict)
    }
