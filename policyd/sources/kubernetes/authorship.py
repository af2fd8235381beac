"""Who wrote an object of a cluster: its field managers, and the marks that GitOps tools leave on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from policyd.model.origin import Authorship

MOST_NAME: Final = 253
_TRACKING: Final = "argocd.argoproj.io/tracking-id"
"""Argo CD's annotation: `<application>:<group>/<kind>:<namespace>/<name>`, of this very object."""
_INSTANCE: Final = "argocd.argoproj.io/instance"
_FLUX: Final = (("kustomize", "Kustomization"), ("helm", "HelmRelease"))
"""Flux labels what it applies: `kustomize.toolkit.fluxcd.io/name`, `…/namespace`."""


class _Managed(msgspec.Struct, frozen=True):
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: datetime | None = None


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    managed_fields: list[_Managed] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


def authorship_of(content: Mapping[str, Any]) -> Authorship | None:
    """Return who last said what the object is to be; whoever writes its status doesn't."""
    try:
        meta = msgspec.convert(content.get("metadata"), _Meta)
    except msgspec.ValidationError:
        return None
    entries = meta.managed_fields or []
    dated = [(each.time, each) for each in entries if not each.subresource and each.time is not None]
    if not dated:
        return None
    at, last = max(dated, key=lambda pair: (pair[0], pair[1].manager))
    return Authorship(last.manager, at, last.operation or None, _through(meta))


def _through(meta: _Meta) -> str | None:
    """Return which tool keeps the object in step with a repository. Anybody may write such marks."""
    labels, annotations = meta.labels or {}, meta.annotations or {}
    application, _, tracked = annotations.get(_TRACKING, "").partition(":")
    # Copied to another object the mark names the former, and says nothing of this one.
    if application and tracked.partition(":")[2] == f"{meta.namespace}/{meta.name}":
        return f"Argo CD application {application[:MOST_NAME]}"
    if labels.get(_INSTANCE):
        return f"Argo CD application {labels[_INSTANCE][:MOST_NAME]}"
    for tool, kind in _FLUX:
        name = labels.get(f"{tool}.toolkit.fluxcd.io/name")
        if name:
            namespace = labels.get(f"{tool}.toolkit.fluxcd.io/namespace", "")
            return f"Flux {kind} {f'{namespace}/' if namespace else ''}{name}"[: 2 * MOST_NAME]
    return None
