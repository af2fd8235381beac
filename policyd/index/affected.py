"""Facts: what compiled things are made from, so that a change recompiles what it touches and nothing else.

Whoever compiles asks the world through a `View`, which notes each fact it gave. A change touches facts; what
was made from a touched fact is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from policyd.model.names import ObjectKey, WorkloadName

About = Literal[
    "object",  # the object of that key, or that there is none
    "servers",  # which Servers concern the shape of that key
    "policies",  # which policies are about the object of that key
    "routes",  # which routes name the Server of that key as a parent
    "namespaces",  # the names and labels of all Namespaces
    "mesh",  # what MeshDefaults fixes for workloads' parts
    "cluster rules",  # what workloads' parts must know of the cluster's rules
]


class Fact(NamedTuple):
    about: About
    of: ObjectKey | str = ""


@dataclass(frozen=True, slots=True)
class Affected:
    """What a batch touched: facts, keys of shapes that came or went, workloads with other members now."""

    facts: frozenset[Fact]
    shapes_added: frozenset[str]
    shapes_removed: frozenset[str]
    workloads: frozenset[WorkloadName]

    def __bool__(self) -> bool:
        return bool(self.facts or self.shapes_added or self.shapes_removed or self.workloads)
