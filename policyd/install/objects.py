"""From settings and issuer material to all objects of an install, in the order in which they are applied."""

from __future__ import annotations

import base64
from typing import Any

from policyd.install.admission import registrations
from policyd.install.audit_api import audit_api, audit_rights, audit_secret
from policyd.install.configs import config_maps
from policyd.install.flow import flow
from policyd.install.issuer import ISSUER_LIFETIME, IssuerMaterial
from policyd.install.names import (
    ACKNOWLEDGED,
    COMPONENTS,
    IDENTITY,
    INJECTOR,
    INJECTOR_SECRET,
    ISSUER_SECRET,
    POLICYD,
    labels,
    meta,
)
from policyd.install.networks import network_policies
from policyd.install.rbac import roles
from policyd.install.settings import InstallSettings
from policyd.install.workloads import budgets, claims, deployments, quota, service_accounts, services
from policyd.resources.crd import CRDS, definition
from policyd.resources.mesh_defaults import DEFAULT_NAME

Object = dict[str, Any]
POD_SECURITY = "pod-security.kubernetes.io"
ISSUER_RENEWAL_DAYS = 60
"""How long before its end cert-manager replaces the issuer."""


def custom_resource_definitions() -> list[Object]:
    """Return the CRDs of our group, labelled as ours. They are applied before anything else."""
    made = []
    for crd in CRDS:
        found = definition(crd)
        made.append(found | {"metadata": found["metadata"] | {"labels": labels()}})
    return made


def render(settings: InstallSettings, material: IssuerMaterial | None) -> list[Object]:
    """Return all objects but the CRDs. The same settings and material give the same objects.

    Without material the issuer's Secret and the roots are left out: what is in the cluster stays (`upgrade`).
    """
    namespace = settings.namespace
    maps = config_maps(settings, None if material is None else material.roots)
    return [
        _namespace(namespace),
        _mesh_defaults(settings),
        *flow(namespace),
        quota(namespace),
        *service_accounts(namespace),
        *(each for component in COMPONENTS for each in roles(component, namespace)),
        *audit_rights(namespace),
        *network_policies(settings),
        *_issuer(settings, material),
        _injector_secret(namespace),
        _acknowledged(namespace),
        audit_secret(namespace),
        *maps,
        *claims(settings),
        *services(namespace),
        *deployments(settings, maps),
        *budgets(settings),
        *registrations(namespace),
        *audit_api(namespace),
    ]


def in_order_of_removal(objects: list[Object]) -> list[Object]:
    """Return objects so that what acts on others goes first, and what holds others last."""
    return list(reversed(objects))


def _namespace(name: str) -> Object:
    enforced = {
        f"{POD_SECURITY}/{mode}{what}": value
        for mode in ("enforce", "audit", "warn")
        for what, value in (("", "restricted"), ("-version", "latest"))
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels() | enforced},
    }


def _mesh_defaults(settings: InstallSettings) -> Object:
    spec = {"defaultAccess": settings.default_access, "clusterNetworks": list(settings.cluster_networks)}
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "MeshDefaults",
        "metadata": meta(DEFAULT_NAME),
        "spec": spec,
    }


def _issuer(settings: InstallSettings, material: IssuerMaterial | None) -> list[Object]:
    if settings.issuer.kind == "cert-manager":
        return [_certificate(settings)]
    if material is None or material.certificate is None or material.key is None:
        return []
    data = {"tls.crt": _base64(material.certificate), "tls.key": _base64(material.key)}
    metadata = meta(ISSUER_SECRET, IDENTITY, settings.namespace)
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "kubernetes.io/tls",
            "data": data,
        }
    ]


def _certificate(settings: InstallSettings) -> Object:
    """Return what cert-manager is asked for: a CA that may sign leaves, and no other CA."""
    issuer = settings.issuer.cert_manager
    assert issuer is not None  # noqa: S101 - the settings' own check
    hours = int(ISSUER_LIFETIME.total_seconds()) // 3600
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": meta(ISSUER_SECRET, IDENTITY, settings.namespace),
        "spec": {
            "secretName": ISSUER_SECRET,
            "isCA": True,
            "commonName": "policyd identity issuer",
            "uris": [f"spiffe://{settings.trust_domain}"],
            "duration": f"{hours}h",
            "renewBefore": f"{ISSUER_RENEWAL_DAYS * 24}h",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["cert sign", "crl sign"],
            "issuerRef": {"group": "cert-manager.io", "kind": issuer.kind, "name": issuer.name},
        },
    }


def _injector_secret(namespace: str) -> Object:
    """Return an empty Secret: the injector fills it, and needs no right to make Secrets."""
    metadata = meta(INJECTOR_SECRET, INJECTOR, namespace)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}


def _acknowledged(namespace: str) -> Object:
    """Return an empty ConfigMap: each replica of policyd owns a key of it, and needs no right to make any."""
    metadata = meta(ACKNOWLEDGED, POLICYD, namespace)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
