"""The chart's values: what stands in for them while objects are rendered, their defaults, their schema."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import yaml

from policyd.install.configs import stored
from policyd.install.issuer import IssuerMaterial
from policyd.install.names import COMPONENTS, SETTINGS_KEY, STORED, STORED_KEY
from policyd.install.settings import InstallSettings

MATERIAL = IssuerMaterial("chart-roots", "chart-certificate", "chart-key")
NULLED = IssuerMaterial("chart-roots")
_STORED = "chart-stored"
_NETWORK = "192.0.2.77/32"
_RESOURCES = {
    name: {"cpu": f"{101 + at}m", "memory": f"{201 + at}Mi", "limit": f"{301 + at}Mi"}
    for at, name in enumerate(COMPONENTS)
}

STAND_INS: dict[str, Any] = {
    "trustDomain": "chart-trust-domain",
    "namespace": "chart-namespace",
    "defaultAccess": "cluster-unauthenticated",
    "clusterNetworks": [_NETWORK],
    "images": {
        "controlPlane": "chart/control-plane",
        "proxy": "chart/data-plane",
        "tag": "chart-tag",
        "pullPolicy": "Never",
    },
    "resources": _RESOURCES,
}
"""Settings whose texts occur nowhere else in what is rendered."""


def _secret(text: str | None) -> str:
    return b64encode((text or "").encode()).decode()


def _expressions() -> list[tuple[str, str]]:
    """Return stand-ins and expressions; the longer stand-ins first, as they are written in YAML or JSON."""
    stand_for = STAND_INS["images"]
    found = [
        (f"clusterNetworks:\n  - {_NETWORK}\n", "clusterNetworks: {{ .Values.clusterNetworks | toJson }}\n"),
        (f"{STORED_KEY}: {_STORED}\n", f'{STORED_KEY}: {{{{ include "policyd.stored" . | quote }}}}\n'),
        (f"root.crt: {MATERIAL.roots}\n", "root.crt: {{ .Values.roots | quote }}\n"),
        (
            f"tls.crt: {_secret(MATERIAL.certificate)}\n",
            "tls.crt: {{ .Values.issuer.certificate | b64enc }}\n",
        ),
        (f"tls.key: {_secret(MATERIAL.key)}\n", "tls.key: {{ .Values.issuer.key | b64enc }}\n"),
        ("defaultAccess: cluster-unauthenticated\n", "defaultAccess: {{ .Values.defaultAccess }}\n"),
        ("imagePullPolicy: Never\n", "imagePullPolicy: {{ .Values.images.pullPolicy }}\n"),
        ('"pullPolicy": "Never"', '"pullPolicy": "{{ .Values.images.pullPolicy }}"'),
        ("port: 54329\n", "port: {{ .Values.audit.port }}\n"),
        ("kind: Issuer\n", 'kind: {{ .Values.issuer.certManager.kind | default "ClusterIssuer" }}\n'),
    ]
    texts = {
        "chart-issuer": ".Values.issuer.certManager.name",
        "chart-class": ".Values.audit.storageClass",
        "chart-audit-secret": ".Values.audit.secret",
        "103Gi": ".Values.audit.size",
        stand_for["controlPlane"]: ".Values.images.controlPlane",
        stand_for["proxy"]: ".Values.images.proxy",
        stand_for["tag"]: ".Values.images.tag",
        STAND_INS["trustDomain"]: ".Values.trustDomain",
        STAND_INS["namespace"]: ".Release.Namespace",
    }
    for name, given in _RESOURCES.items():
        texts |= {value: f".Values.resources.{name}.{key}" for key, value in given.items()}
    for text, value in texts.items():
        # Alone it could be read as a number; within other text it can't.
        found += [(f"{mark} {text}\n", f"{mark} {{{{ {value} | quote }}}}\n") for mark in (":", "-")]
        found.append((text, f"{{{{ {value} }}}}"))
    return found


EXPRESSIONS = _expressions()


def settings_texts(objects: list[dict[str, Any]], *, digest: bool = False) -> dict[str, str]:
    """Return the settings file of each component, or its SHA-256, as rendered objects have it."""
    maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    texts = {name: str(maps[f"{name}-settings"][SETTINGS_KEY]) for name in COMPONENTS}
    if not digest:
        return texts
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def with_stand_in(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object; of the settings of the install, which are the values themselves, a stand-in."""
    if (value["kind"], value["metadata"]["name"]) != ("ConfigMap", STORED):
        return value
    return value | {"data": {STORED_KEY: _STORED}}


def values_yaml(header: str) -> str:
    """Return the defaults: those of `policyctl install`, and what only the chart has."""
    values = stored(InstallSettings())
    del values["namespace"]
    values["issuer"] |= {"certificate": "", "key": ""}
    values |= {"roots": "", "createNamespace": False}
    notes = (
        "# docs/reference/install.md says what each is. roots, issuer.certificate and issuer.key are PEM:\n"
        "# --set-file roots=root.crt. The control plane's namespace is the release's; createNamespace: true\n"
        "# adds it, with its Pod Security labels, to what `helm template` prints.\n"
    )
    return header + notes + yaml.safe_dump(values, sort_keys=False, width=110)


def values_schema() -> dict[str, Any]:
    """Return the JSON schema of the values: unknown keys are refused, as by `policyctl install`."""
    schema = InstallSettings.model_json_schema(by_alias=True)
    pem = {"type": "string", "maxLength": 262144}
    del schema["properties"]["namespace"]
    schema["properties"] |= {
        "roots": pem,
        "createNamespace": {"type": "boolean"},
        "global": {"type": "object"},
    }
    schema["$defs"]["Issuer"]["properties"] |= {"certificate": pem, "key": pem}
    plain: dict[str, Any] = _plain(schema)
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | plain


def _plain(schema: Any) -> Any:
    """Leave out what says nothing to a reader of values."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _plain(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)
    }
