"""Installs to look at, and issuer material that stands for any."""

from __future__ import annotations

from typing import Any

from policyd.install.issuer import IssuerMaterial
from policyd.install.settings import InstallSettings

MATERIAL = IssuerMaterial("roots\n", "certificate\n", "key\n")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "ha": {"ha": True},
    "claim": {"audit": {"kind": "claim", "storageClass": "fast"}},
    "postgres": {"ha": True, "audit": {"kind": "postgres", "secret": "audit-database"}},
    "cert-manager": {"issuer": {"kind": "cert-manager", "certManager": {"name": "company"}}},
    "existing": {"issuer": {"kind": "existing"}},
    "elsewhere": {"namespace": "mesh", "trustDomain": "example.org", "defaultAccess": "deny"},
}


def settings(**given: Any) -> InstallSettings:
    """Return settings as a file gives them."""
    return InstallSettings.model_validate(given)


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind."""
    return [each for each in objects if each["kind"] == kind]
