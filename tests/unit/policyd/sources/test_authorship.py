"""Who wrote an object of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from policyd.sources.kubernetes.authorship import authorship_of

MANAGED = [
    {"manager": "kubectl", "operation": "Apply", "time": "2026-11-20T10:00:00Z"},
    {"manager": "helm", "operation": "Update", "time": "2026-11-21T10:00:00Z"},
    {"manager": "policyd", "operation": "Apply", "time": "2026-11-22T10:00:00Z", "subresource": "status"},
]


def meta(**more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "readers", "namespace": "shop", "managedFields": MANAGED, **more}}


def test_the_last_who_said_what_the_object_is_to_be() -> None:
    found = authorship_of(meta())
    assert found is not None
    assert (found.manager, found.operation, found.at.day, found.through) == ("helm", "Update", 21, None)


@pytest.mark.parametrize(
    ("marks", "through"),
    [
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "books:policyd.dev/Server:shop/readers"}},
            "Argo CD application books",
        ),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "books:policyd.dev/Server:shop/other"}}, None),
        ({"labels": {"argocd.argoproj.io/instance": "books"}}, "Argo CD application books"),
        (
            {
                "labels": {
                    "kustomize.toolkit.fluxcd.io/name": "apps",
                    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                }
            },
            "Flux Kustomization flux-system/apps",
        ),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "books"}}, "Flux HelmRelease books"),
        ({"labels": {"app.kubernetes.io/instance": "books"}}, None),
    ],
)
def test_gitops_tools_are_known_by_their_marks(marks: dict[str, Any], through: str | None) -> None:
    found = authorship_of(meta(**marks))
    assert found is not None
    assert found.through == through


@pytest.mark.parametrize(
    "content", [{}, {"metadata": None}, {"metadata": {"managedFields": 3}}, {"metadata": {}}]
)
def test_what_says_nothing_is_nobodys(content: dict[str, Any]) -> None:
    assert authorship_of(content) is None
