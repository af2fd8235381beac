"""What the API server and kubectl ask before they ask for denials: which resources there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from policyd.audit_api.names import DENIALS, EXPLANATION, GROUP, GROUP_VERSION, GROUPS, VERSION

Object = dict[str, Any]
AGGREGATED: Final = "as=APIGroupDiscoveryList"
"""In the media type of who wants all in one (`application/json;g=apidiscovery.k8s.io;v=v2;as=…`)."""
AGGREGATED_TYPE: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_VERSION: Final = {"groupVersion": GROUP_VERSION, "version": VERSION}
_GROUP: Final = {"name": GROUP, "versions": [_VERSION], "preferredVersion": _VERSION}
_RESOURCES: Final = (
    (DENIALS, "denial", "Denial", ("get", "list", "watch")),
    (f"{DENIALS}/{EXPLANATION}", "", "Explanation", ("get",)),
    (GROUPS, "denialgroup", "DenialGroup", ("list",)),
)

_GROUPS_LIST: Final = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]}


def _resources() -> Object:
    found = [
        {"name": name, "singularName": singular, "namespaced": True, "kind": kind, "verbs": list(verbs)}
        for name, singular, kind, verbs in _RESOURCES
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": GROUP_VERSION,
        "resources": found,
    }


def aggregated() -> Object:
    """Return the group as aggregated discovery has it (KEP-3352)."""
    kinds = {name: _kind(kind) for name, _, kind, _ in _RESOURCES}
    resources: list[Object] = [
        {
            "resource": name,
            "responseKind": kinds[name],
            "scope": "Namespaced",
            "singularResource": singular,
            "verbs": list(verbs),
        }
        for name, singular, _, verbs in _RESOURCES
        if "/" not in name
    ]
    part = f"{DENIALS}/{EXPLANATION}"
    resources[0]["subresources"] = [
        {"subresource": EXPLANATION, "responseKind": kinds[part], "verbs": ["get"]}
    ]
    version = {"version": VERSION, "resources": resources, "freshness": "Current"}
    item = {"metadata": {"name": GROUP, "creationTimestamp": None}, "versions": [version]}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [item],
    }


def _kind(kind: str) -> Object:
    return {"group": GROUP, "version": VERSION, "kind": kind}


_META: Final = {
    "type": "object",
    "description": "Name (the denial's id), namespace (of the workload whose proxy refused) and time.",
}
_SCHEMAS: Final[Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]]] = {
    "Denial": (
        "Denial is a request that a proxy refused, or would have refused if audit policies were enforced.",
        {"record": ("object", "What the proxy wrote: caller, request, reason, rule, table.")},
    ),
    "DenialGroup": (
        "DenialGroup stands for equal denials: how many, first and last, and the newest as an example.",
        {"group": ("object", "What they have in common, and their number.")},
    ),
    "Explanation": (
        "Explanation says why a denial came about, by the very table that decided it.",
        {
            "explanation": (
                "object",
                "The decision, what nearly allowed it, what changed since it was allowed.",
            ),
            "withheld": ("array", "What isn't told, since the asker may not read what it is about."),
        },
    ),
}


def _schemas() -> Object:
    return {f"dev.policyd.audit.{VERSION}.{kind}": _schema(kind) for kind in _SCHEMAS}


def _schema(kind: str) -> Object:
    says, fields = _SCHEMAS[kind]
    properties: Object = {
        "apiVersion": {"type": "string", "description": "Version of the object's schema."},
        "kind": {"type": "string", "description": "Kind of the object."},
        "metadata": dict(_META),
    }
    for name, (type_, text) in fields.items():
        properties[name] = {"type": type_, "description": text}
        if type_ == "array":
            properties[name]["items"] = {"type": "string"}
    return {
        "type": "object",
        "description": says,
        "properties": properties,
        "x-kubernetes-group-version-kind": [_kind(kind)],
    }


_INFO: Final = {"title": "policyd audit", "version": VERSION}


def _openapi_v3() -> Object:
    root = f"/apis/{GROUP_VERSION}/namespaces/{{namespace}}"
    paths = {
        f"{root}/{DENIALS}": _operation("list", "Denial"),
        f"{root}/{DENIALS}/{{name}}": _operation("get", "Denial"),
        f"{root}/{DENIALS}/{{name}}/{EXPLANATION}": _operation("get", "Explanation"),
        f"{root}/{GROUPS}": _operation("list", "DenialGroup"),
    }
    return {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": _schemas()}}


def _operation(action: str, kind: str) -> Object:
    """Return a path; by these marks `kubectl explain` finds which kind a resource is."""
    operation = {
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(kind),
    }
    return {"get": operation}


def _openapi_index() -> Object:
    version = hashlib.sha256(json.dumps(_openapi_v3(), sort_keys=True).encode()).hexdigest()[:32].upper()
    path = f"apis/{GROUP_VERSION}"
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={version}"}}}


DOCUMENTS: Final[Mapping[str, Object]] = {
    "/apis": _GROUPS_LIST,
    f"/apis/{GROUP}": {"kind": "APIGroup", "apiVersion": "v1", **_GROUP},
    f"/apis/{GROUP_VERSION}": _resources(),
    "/openapi/v2": {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": _schemas()},
    "/openapi/v3": _openapi_index(),
    f"/openapi/v3/apis/{GROUP_VERSION}": _openapi_v3(),
}
"""What is the same for everybody, by path."""
