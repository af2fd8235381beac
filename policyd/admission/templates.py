"""Where in an object its pods are described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_TEMPLATE = ("spec", "template")
PLACES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""By group and kind: the path of the pod, or of the template of pods."""


def template_of(written: Mapping[str, Any]) -> Any:
    """Return the pod, or the template of pods, of an object; None where it has none."""
    path = PLACES.get(_type(written))
    value: Any = None if path is None else written
    for part in path or ():
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def with_template(written: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with another pod, or template of pods. It must have one."""
    return _put(written, PLACES[_type(written)], template)


def _put(value: Mapping[str, Any], path: tuple[str, ...], template: Mapping[str, Any]) -> dict[str, Any]:
    if not path:
        return dict(template)
    return {**value, path[0]: _put(value[path[0]], path[1:], template)}


def _type(written: Mapping[str, Any]) -> tuple[str, str]:
    group, _, _ = str(written.get("apiVersion", "")).rpartition("/")
    return group, str(written.get("kind", ""))
