"""How objects of the kinds that we read are called: in tables, and in paths of the API."""

from __future__ import annotations

from typing import Final

from policyd.model.names import ObjectKey
from policyd.resources.registry import KINDS

_BY_TABLE_NAME: Final = {
    f"{group_kind[1]}.{group_kind[0]}".lower().rstrip("."): group_kind for group_kind in KINDS
}
"""Kinds by their name in a table: `server.policyd.dev`, `pod`."""


def key_of(name: str) -> ObjectKey | None:
    """Read an object's name in a table (`kind.group/namespace/name`); None where that is no kind of ours."""
    kind, *place = name.partition("#")[0].split("/")
    known = _BY_TABLE_NAME.get(kind)
    if known is None or len(place) not in {1, 2}:
        return None
    return ObjectKey(*known, place[0] if len(place) == 2 else "", place[-1])


def plural_of(kind: str) -> str:
    """Return a kind's name in paths of the API."""
    lower = kind.lower()
    if lower.endswith("y"):
        return f"{lower[:-1]}ies"
    return lower if lower.endswith("s") else f"{lower}s"


_BY_PLURAL: Final = {(group, plural_of(kind)): (group, kind) for group, kind in KINDS}


def key_at(group: str, plural: str, namespace: str, name: str) -> ObjectKey | None:
    """Return the object at a path of the API; None where that is no kind of ours.

    The API server says of a Namespace that it lies in itself; here nothing that isn't namespaced has one.
    """
    known = _BY_PLURAL.get((group, plural))
    if known is None:
        return None
    return ObjectKey(*known, namespace if KINDS[known].namespaced else "", name)
