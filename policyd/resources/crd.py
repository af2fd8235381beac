"""CustomResourceDefinitions of our group, made from the models: `python -m policyd.resources.crd --write`.

Unknown fields are kept by the API server and not pruned: a misspelt `when` that is silently dropped would
leave a grant wider than it was written. policyd sees it and calls the object unreadable (semantics U1).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from policyd.generated import Generated
from policyd.model.names import POLICYD
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.mesh_defaults import MeshDefaultsSpec
from policyd.resources.mesh_tls_authentication import MeshTLSAuthenticationSpec
from policyd.resources.network_authentication import NetworkAuthenticationSpec
from policyd.resources.rego_policy import RegoPolicySpec
from policyd.resources.server import ServerSpec
from policyd.resources.spec import Spec

VERSION = "v1alpha1"
FOLDER = Path(__file__).resolve().parents[2] / "crds"
HEADER = "# Generated from policyd/resources by `make crds`; edit the models, not this file.\n"

_DROPPED = frozenset({"title", "additionalProperties", "propertyNames", "$defs"})
_LARGEST_EXACT = 2**53
"""Bounds beyond are dropped: the API server holds them as floating point."""

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """What `kubectl get` shows of an object; `wide` only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def as_definition(self) -> Schema:
        """Return it as an item of `additionalPrinterColumns`."""
        made: Schema = {"name": self.name, "jsonPath": self.path, "type": self.type}
        return made | {"priority": 1} if self.wide else made


@dataclass(frozen=True, slots=True)
class Crd:
    """A kind of ours as the API server is told of it."""

    kind: str
    plural: str
    short_name: str
    spec: type[Spec]
    columns: tuple[Column, ...]
    cluster_scoped: bool = False


_TARGET = (
    Column("Target kind", ".spec.targetRef.kind"),
    Column("Target", ".spec.targetRef.name"),
)
_READY = (
    Column("Accepted", '.status.conditions[?(@.type=="Accepted")].status'),
    Column("Reason", '.status.conditions[?(@.type=="Accepted")].reason', wide=True),
)
_ENFORCED = (Column("Enforced", ".status.enforced"),)
_AGE = (Column("Age", ".metadata.creationTimestamp", "date"),)

CRDS = (
    Crd(
        "Server",
        "servers",
        "psrv",
        ServerSpec,
        (
            Column("Port", ".spec.port"),
            Column("Protocol", ".spec.proxyProtocol"),
            Column("Default", ".spec.accessPolicy"),
            *_READY,
            *_ENFORCED,
            *_AGE,
        ),
    ),
    Crd(
        "AuthorizationPolicy",
        "authorizationpolicies",
        "pauthz",
        AuthorizationPolicySpec,
        (
            Column("Action", ".spec.action"),
            Column("Mode", ".spec.mode"),
            *_TARGET,
            *_READY,
            *_ENFORCED,
            Column("Valid until", ".spec.validUntil", wide=True),
            *_AGE,
        ),
    ),
    Crd("MeshTLSAuthentication", "meshtlsauthentications", "pmtls", MeshTLSAuthenticationSpec, _READY + _AGE),
    Crd("NetworkAuthentication", "networkauthentications", "pnet", NetworkAuthenticationSpec, _READY + _AGE),
    Crd(
        "RegoPolicy",
        "regopolicies",
        "prego",
        RegoPolicySpec,
        (Column("Mode", ".spec.mode"), *_TARGET, *_READY, *_AGE),
    ),
    Crd(
        "MeshDefaults",
        "meshdefaults",
        "mdef",
        MeshDefaultsSpec,
        (
            Column("Default", ".spec.defaultAccess"),
            Column("Widest", ".spec.maxDefault"),
            Column("Epoch", ".spec.epoch", "integer", wide=True),
            *_READY,
            *_AGE,
        ),
        cluster_scoped=True,
    ),
)


def schema_of(model: type[Spec]) -> Schema:
    """Return the structural schema of a model: no references, no nulls, no conversions."""
    made = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(made, made.get("$defs", {}))


def _structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    merged = _merged(schema, definitions)
    made: Schema = {name: value for name, value in merged.items() if name not in _DROPPED | {"properties"}}
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "items" in made:
        made["items"] = _structural(made["items"], definitions)
    if "properties" in merged:
        properties = merged["properties"].items()
        made["properties"] = {name: _structural(value, definitions) for name, value in properties}
        made["x-kubernetes-preserve-unknown-fields"] = True
    elif isinstance(merged.get("additionalProperties"), Mapping):
        made["additionalProperties"] = _structural(merged["additionalProperties"], definitions)
    if made.get("default") in (None, [], {}) or isinstance(made.get("default"), Mapping):
        made.pop("default", None)
    return _numbers(made)


def _merged(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Return the schema with what it refers to.

    Of "this or null" the first, because the API server knows no null.
    """
    made = dict(schema)
    choices = [choice for choice in made.pop("anyOf", []) if choice.get("type") != "null"]
    if len(choices) > 1:
        raise ValueError(f"a choice of types has no structural schema: {choices}")
    if choices:
        made = {**_merged(choices[0], definitions), **made}
    reference = made.pop("$ref", None)
    if reference is not None:
        made = {**_merged(definitions[reference.removeprefix("#/$defs/")], definitions), **made}
    return made


def _numbers(made: Schema) -> Schema:
    if made.get("type") == "integer":
        made["format"] = "int64"
        if made.get("maximum", 0) > _LARGEST_EXACT:
            del made["maximum"]
    return made


def undescribed(schema: Schema, path: str = "") -> Iterable[str]:
    """Return the fields below a schema that have no description."""
    for name, field in schema.get("properties", {}).items():
        if not field.get("description") and f"{path}.{name}" != ".metadata":
            yield f"{path}.{name}"
        yield from undescribed(field, f"{path}.{name}")
    if isinstance(schema.get("items"), Mapping):
        yield from undescribed(schema["items"], f"{path}[]")


_CONDITION: Schema = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "maxLength": 316, "description": "What the condition is about."},
        "status": {
            "type": "string",
            "enum": ["True", "False", "Unknown"],
            "description": "Whether it holds.",
        },
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "The generation that the condition is about.",
        },
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "When the status last changed.",
        },
        "reason": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "description": "One word for the status.",
        },
        "message": {"type": "string", "maxLength": 32768, "description": "The same for people."},
    },
}

_STATUS: Schema = {
    "type": "object",
    "description": "What policyd makes of the object.",
    "properties": {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "The generation that the status is about.",
        },
        "workloads": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "How many workloads the object concerns.",
        },
        "enforcing": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "How many of these enforce this generation of it.",
        },
        "enforced": {
            "type": "string",
            "maxLength": 32,
            "description": "The same as `enforcing/workloads`, for `kubectl get`.",
        },
        "conditions": {
            "type": "array",
            "maxItems": 16,
            "description": "What is true of the object.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": _CONDITION,
        },
    },
}


def definition(crd: Crd) -> Schema:
    """Return the whole CustomResourceDefinition."""
    properties: Schema = {
        "apiVersion": {"type": "string", "description": "The version of the object's schema."},
        "kind": {"type": "string", "description": "The kind of the object."},
        "metadata": {"type": "object"},  # the API server's own; it takes nothing else here
        "spec": schema_of(crd.spec),
        "status": _STATUS,
    }
    description = (crd.spec.__doc__ or "").split("\n\n")[0]
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [each.as_definition() for each in crd.columns],
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": description,
                "required": ["spec"],
                "properties": properties,
            }
        },
    }
    names = {
        "kind": crd.kind,
        "listKind": f"{crd.kind}List",
        "plural": crd.plural,
        "singular": crd.kind.lower(),
        "shortNames": [crd.short_name],
        "categories": ["policyd"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{crd.plural}.{POLICYD}"},
        "spec": {
            "group": POLICYD,
            "scope": "Cluster" if crd.cluster_scoped else "Namespaced",
            "names": names,
            "versions": [version],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes a value that occurs twice twice: anchors are no use to a reader."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def rendered() -> dict[str, str]:
    """Return the files of `crds/`: name to text."""
    return {
        f"{POLICYD}_{crd.plural}.yaml": HEADER
        + yaml.dump(definition(crd), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
        for crd in CRDS
    }


FILES = Generated(FOLDER, rendered, "crds", "make crds")


if __name__ == "__main__":
    sys.exit(FILES.main())
