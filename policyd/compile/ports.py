"""Who owns which port of a workload, and what each port is by itself (semantics W2–W4, T3, T6, U3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policyd.compile.annotations import default_accesses, opaque_ports
from policyd.compile.mesh import Mesh, default_access
from policyd.compile.rows import Access, ClusterConditions, Probe, ProbeKind, Protocol
from policyd.index.claims import claim_of
from policyd.index.shapes import DeclaredProbe, Shape
from policyd.index.targets import namespace_key
from policyd.index.view import View
from policyd.index.world import Object

_PROBE_KINDS = {"http": ProbeKind.HTTP, "tcp": ProbeKind.TCP, "grpc": ProbeKind.GRPC}
UNREAD = frozenset({Protocol.OPAQUE, Protocol.TLS})
"""Protocols of ports on which nothing is read (semantics T3)."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A Server that another owner keeps from a port (semantics W2)."""

    number: int
    winner: Object
    loser: Object


@dataclass(slots=True)
class Plan:
    """A workload's ports before any policy.

    `homeless` are the unreadable Servers that refuse on every port without an owner (U3); `opaque` the ports
    without an owner on which nothing is read.
    """

    owners: dict[int, Object] = field(default_factory=dict)
    homeless: list[Object] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    access: Access = Access.DENY
    opaque: frozenset[int] = frozenset()
    probes: dict[int, tuple[Probe, ...]] = field(default_factory=dict)


def plan_ports(view: View, mesh: Mesh, shape: Shape) -> Plan:
    """Return who owns which port and what the others are."""
    plan = Plan(probes=_probes(shape.probes))
    for server in view.servers(shape):
        claim = claim_of(server)
        if claim is None:
            plan.homeless.append(server)
            continue
        for number in sorted(claim.ports_of(shape)):
            winner = plan.owners.setdefault(number, server)
            if winner is not server:
                plan.conflicts.append(Conflict(number, winner, server))
    namespace = view.object(namespace_key(shape.namespace))
    of_namespace = {} if namespace is None else namespace.meta.annotations
    of_pod = shape.annotation_map
    plan.access = default_access(mesh, [*default_accesses(of_pod), *default_accesses(of_namespace)])
    plan.opaque = _opaque(shape, of_namespace, mesh)
    return plan


def cluster_conditions(mesh: Mesh, protocol: Protocol, number: int) -> ClusterConditions:
    """Return what the cluster's rules with a `when` mean on a port (semantics T3)."""
    if protocol not in UNREAD:
        return ClusterConditions.EVALUATE
    listed = number in mesh.opaque_ports
    return ClusterConditions.PASS_OVER if listed else ClusterConditions.SATISFIED


def _opaque(shape: Shape, of_namespace: Mapping[str, str], mesh: Mesh) -> frozenset[int]:
    """Return the pod's annotation, else its namespace's, else MeshDefaults' list (decision record 3)."""
    for source in (shape.annotation_map, of_namespace):
        listed = opaque_ports(source, shape.ports)
        if listed is not None:
            return listed
    return mesh.opaque_ports


def _probes(declared: Iterable[DeclaredProbe]) -> dict[int, tuple[Probe, ...]]:
    found: dict[int, set[Probe]] = {}
    for probe in declared:
        row = Probe(_PROBE_KINDS[probe.kind], probe.target, probe.headers, probe.service)
        found.setdefault(probe.port, set()).add(row)
    return {number: tuple(sorted(rows)) for number, rows in found.items()}
