"""The order of age (semantics W7), which is the order of attribution within a level (D2)."""

from __future__ import annotations

from typing import NamedTuple

from policyd.resources.base import Resource, Unreadable


class Age(NamedTuple):
    """Compares older first: by creation, then namespace and name.

    Objects without a creation time come after all that have one. `type` is `kind.group` in lower case; it
    decides between objects of one age and name (decision record 2).
    """

    undated: bool
    created: float
    namespace: str
    name: str
    type: str


def age_of(found: Resource[object] | Unreadable) -> Age:
    """Return where an object stands."""
    kind = f"{found.key.kind}.{found.key.group}" if found.key.group else found.key.kind
    return Age(*found.meta.age, kind.lower())
