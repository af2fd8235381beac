"""What everything of a workload is compiled with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from policyd.compile.authorizations import Authorization, Meaning, meaning_of
from policyd.compile.memo import Key, Memo
from policyd.compile.mesh import ClusterRules, Mesh
from policyd.index.affected import Fact
from policyd.index.view import View
from policyd.model.names import ObjectKey

T = TypeVar("T")

MESH = Fact("mesh")
CLUSTER_RULES = Fact("cluster rules")


@dataclass(slots=True)
class Context:
    """The mesh as it is now, and what was made before. Its owner alone changes it, and forgets the facts."""

    memo: Memo
    mesh: Mesh
    cluster_rules: ClusterRules

    def mesh_for(self, view: View) -> Mesh:
        view.note({MESH})
        return self.mesh

    def cluster_rules_for(self, view: View) -> ClusterRules:
        view.note({CLUSTER_RULES})
        return self.cluster_rules

    def once(self, view: View, key: Key, make: Callable[[View], T]) -> T:
        """Return a value that others share."""
        return self.memo.get(view, key, make)

    def meaning(self, view: View, key: ObjectKey) -> Meaning:
        """Return what a policy means; of one that isn't there, nothing."""
        return self.memo.get(view, ("meaning", key), lambda inner: self._meaning(inner, key))

    def _meaning(self, view: View, key: ObjectKey) -> Meaning:
        found = view.object(key)
        return Meaning(None) if found is None else meaning_of(found, view, self.mesh_for(view))

    def authorizations(self, view: View, target: ObjectKey) -> list[Authorization]:
        """Return what the policies about an object mean, the oldest first; none for what grants nothing."""
        found = (self.meaning(view, key).authorization for key in view.policies(target))
        return sorted((each for each in found if each is not None), key=lambda each: each.age)
