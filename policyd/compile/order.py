"""The order of age (semantics W7), which is the order of attribution within a level (D2)."""

from __future__ import annotations

from typing import NamedTuple

from policyd.resources.base import Resource, Unreadable


class Age(NamedTuple):
    """Compares older first: by creation, then namespace and name, then the place in a list.

    Objects without a creation time come after all that have one. `kind` and `group` decide between objects of
    different kinds with one name, so that the order never depends on history.
    """

    undated: bool
    created: float
    namespace: str
    name: str
    place: int = 0
    kind: str = ""
    group: str = ""


def age_of(found: Resource[object] | Unreadable) -> Age:
    """Return where an object stands."""
    return Age(*found.meta.age, 0, found.key.kind, found.key.group)
