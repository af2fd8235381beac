"""One workload shape's own part of its rule table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache

from policyd.compile.access import parse_access
from policyd.compile.authorizations import refusal
from policyd.compile.context import Context
from policyd.compile.findings import about
from policyd.compile.placed import Placed, PortRows
from policyd.compile.pools import PoolBuilder
from policyd.compile.ports import Conflict, Plan, cluster_conditions, plan_ports
from policyd.compile.rows import (
    READER_VERSION,
    Access,
    ClusterConditions,
    Level,
    Port,
    Protocol,
    Rule,
    Who,
    WorkloadPart,
)
from policyd.compile.servers import rows_of_server, rows_without_server, spec_of
from policyd.index.shapes import Shape
from policyd.index.view import View
from policyd.index.world import Object
from policyd.model.finding import Finding

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Compiled:
    """A workload's own part. `findings` concern what this shape meets: conflicts, policies beyond a bound."""

    rows: WorkloadPart
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A port before its rows have indices; number 0: every port that isn't listed."""

    number: int
    owner: Object | None
    rows: PortRows
    cluster: ClusterConditions


def compile_workload(context: Context, view: View, shape: Shape) -> Compiled:
    """Return the part of the table that belongs to the workloads of a shape."""
    mesh = context.mesh_for(view)
    plan = plan_ports(view, mesh, shape)
    drafts = []
    for number, owner in sorted(plan.owners.items()):
        rows = rows_of_server(context, view, owner)
        drafts.append(_Draft(number, owner, rows, cluster_conditions(mesh, rows.protocol, number)))
    unowned, other = _unowned(context, view, shape, plan)
    drafts = sorted([*drafts, *unowned], key=lambda draft: draft.number)
    table = _Numbered([*drafts, other])
    ports = [table.port(draft, plan) for draft in drafts]
    part = WorkloadPart(
        READER_VERSION,
        shape.namespace,
        table.pools.pools(),
        table.rules,
        [attached.row for attached in table.attached],
        ports,
        table.port(other, plan),
    )
    return Compiled(part, tuple(_findings(plan, drafts)))


def _unowned(context: Context, view: View, shape: Shape, plan: Plan) -> tuple[list[_Draft], _Draft]:
    """Return the ports without an owner that are listed, and all others as one.

    They differ only in whether they are opaque and what the cluster's conditions mean on them; the largest of
    these classes is not listed.
    """
    mesh = context.mesh_for(view)
    classes = _Classes.of(plan, mesh.opaque_ports)
    homeless = tuple(Placed(refusal(server, Level.SERVER)) for server in plan.homeless)

    def rows_of(kind: ClusterConditions) -> PortRows:
        protocol = Protocol.UNKNOWN if kind is ClusterConditions.EVALUATE else Protocol.OPAQUE
        rows = rows_without_server(context, view, shape.namespace, protocol)
        return replace(rows, placed=(*rows.placed, *homeless))

    rows = {kind: rows_of(kind) for kind, size in classes.sizes.items() if size or kind is classes.rest}
    of_number = {number: kind for kind, numbers in classes.listed.items() for number in numbers}
    for number in plan.probes.keys() - plan.owners.keys() - of_number.keys():
        of_number[number] = classes.rest
    listed = [_Draft(number, None, rows[kind], kind) for number, kind in sorted(of_number.items())]
    return listed, _Draft(0, None, rows[classes.rest], classes.rest)


@dataclass(frozen=True, slots=True)
class _Classes:
    """Ports without an owner by what the cluster's conditions mean there; of the largest only how many."""

    sizes: Mapping[ClusterConditions, int]
    rest: ClusterConditions
    listed: Mapping[ClusterConditions, AbstractSet[int]]

    @classmethod
    def of(cls, plan: Plan, of_mesh: frozenset[int]) -> _Classes:
        """Sort them without looking at every port: a pod can have nearly all of them in one class."""
        owned = plan.owners.keys()
        passed_over = (plan.opaque & of_mesh) - owned
        opaque = len(plan.opaque) - len(owned & plan.opaque)
        sizes = {
            ClusterConditions.PASS_OVER: len(passed_over),
            ClusterConditions.SATISFIED: opaque - len(passed_over),
            ClusterConditions.EVALUATE: _LAST_PORT - len(owned) - opaque,
        }
        rest = min(sizes, key=lambda kind: (-sizes[kind], kind))
        makers: dict[ClusterConditions, Callable[[], AbstractSet[int]]] = {
            ClusterConditions.PASS_OVER: lambda: passed_over,
            ClusterConditions.SATISFIED: lambda: plan.opaque - of_mesh - owned,
            ClusterConditions.EVALUATE: lambda: _all_but(plan.opaque) - owned,
        }
        return cls(sizes, rest, {kind: make() for kind, make in makers.items() if kind is not rest})


@lru_cache(maxsize=64)
def _all_but(ports: frozenset[int]) -> frozenset[int]:
    return frozenset(range(1, _LAST_PORT + 1)) - ports


class _Numbered:
    """Rows and routes with their indices: rules in the order of attribution, routes by age."""

    def __init__(self, drafts: Iterable[_Draft]) -> None:
        rows = {id(draft.rows): draft.rows for draft in drafts}.values()
        placed = {each.order: each for part in rows for each in part.placed}
        attached = {each.key: each for part in rows for each in part.routes}
        self.attached = sorted(attached.values(), key=lambda each: each.age)
        self._routes = {each.key: index for index, each in enumerate(self.attached)}
        self._rules = {order: index for index, order in enumerate(sorted(placed))}
        self.pools = PoolBuilder()
        self.rules = [self._rule(placed[order]) for order in self._rules]

    def _rule(self, placed: Placed) -> Rule:
        its = placed.authorization
        identities, networks = its.identities, its.networks
        return Rule(
            its.effect,
            its.level,
            its.key.text,
            its.key.at(its.field),
            its.audit,
            placed.scope,
            0 if placed.route is None else self._routes[placed.route],
            Who.ANYONE if identities is None else Who.SET,
            0 if identities is None else self.pools.identities(identities),
            its.anonymous_too,
            Who.ANYONE if networks is None else Who.SET,
            0 if networks is None else self.pools.networks(networks),
            self.pools.conditions(its.conditions),
            its.valid_until_millis,
        )

    def port(self, draft: _Draft, plan: Plan) -> Port:
        rows, owner = draft.rows, draft.owner
        spec = spec_of(owner) if owner is not None and rows.readable else None
        access = plan.access if owner is None else Access.DENY
        if spec is not None:
            access = parse_access(spec.access_policy) or Access.DENY
        return Port(
            draft.number,
            rows.protocol,
            "" if owner is None else owner.key.text,
            "" if owner is None else owner.key.at("spec"),
            access,
            rows.path_mode,
            spec is not None and "websocket" in spec.upgrades,
            draft.cluster,
            tuple(sorted(self._rules[each.order] for each in rows.placed)),
            tuple(sorted(self._routes[each.key] for each in rows.routes)),
            plan.probes.get(draft.number, ()),
        )


def _findings(plan: Plan, drafts: Iterable[_Draft]) -> Iterator[Finding]:
    for part in {id(draft.rows): draft.rows for draft in drafts}.values():
        yield from part.findings
    yield from (_conflict(conflict) for conflict in plan.conflicts)


def _conflict(conflict: Conflict) -> Finding:
    message = (
        f"port {conflict.number} is owned by {conflict.winner.key.text}, which is older; no effect there"
    )
    advice = "narrow one of the two selectors, or remove one Server"
    return about(conflict.loser, "PortConflict", "spec.port", message, advice)
