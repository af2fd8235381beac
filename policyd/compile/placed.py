"""Authorizations where they count, before they are rows with indices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from policyd.compile.authorizations import Authorization
from policyd.compile.mesh import MOST_CONDITIONAL
from policyd.compile.routes import Attached
from policyd.compile.rows import Effect, Level, PathMode, Protocol, Scope
from policyd.index.ages import Age
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey

Order = tuple[Level, Age, Effect, Scope, str]


@dataclass(frozen=True, slots=True)
class Placed:
    """An authorization on a port, or on a route of it."""

    authorization: Authorization
    scope: Scope = Scope.PORT
    route: ObjectKey | None = None

    @property
    def order(self) -> Order:
        """The order of attribution (semantics D2); different for different rows of one workload."""
        its = self.authorization
        return (its.level, its.age, its.effect, self.scope, self.route.text if self.route else "")


@dataclass(frozen=True, slots=True)
class PortRows:
    """What concerns the ports of one Server, or the ports of a namespace that no Server owns."""

    protocol: Protocol
    placed: tuple[Placed, ...] = ()
    routes: tuple[Attached, ...] = ()
    readable: bool = True
    path_mode: PathMode = PathMode.STRICT
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class Bound:
    """Counts the enforced policies with a `when` on one port, in the order of admission (semantics V8)."""

    count: int
    beyond: list[ObjectKey] = field(default_factory=list)

    def admit(self, authorizations: Iterable[Authorization]) -> list[Authorization]:
        """Return the authorizations, of those beyond the bound what is left of them."""
        admitted = (self._admit(each) for each in authorizations)
        return [each for each in admitted if each is not None]

    def _admit(self, authorization: Authorization) -> Authorization | None:
        if authorization.audit or not authorization.conditions:
            return authorization
        self.count += 1
        if self.count <= MOST_CONDITIONAL:
            return authorization
        self.beyond.append(authorization.key)
        return authorization.refused()
