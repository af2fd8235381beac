"""Who owns which port of a workload, and what each port is by itself (semantics W2–W4, T3, T6, U3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policyd.compile.access import parse_access
from policyd.compile.mesh import Mesh, default_access
from policyd.compile.rows import Access, ClusterConditions, Probe, ProbeKind, Protocol
from policyd.index.claims import claim_of
from policyd.index.shapes import DEFAULT_ACCESS, OPAQUE_PORTS, ContainerPort, DeclaredProbe, Shape
from policyd.index.targets import namespace_key
from policyd.index.view import View
from policyd.index.world import Object

_PROBE_KINDS = {"http": ProbeKind.HTTP, "tcp": ProbeKind.TCP, "grpc": ProbeKind.GRPC}
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
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
    without an owner on which nothing is read; `doubts` what can't be read of the annotations.
    """

    owners: dict[int, Object] = field(default_factory=dict)
    homeless: list[Object] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    access: Access = Access.DENY
    opaque: frozenset[int] = frozenset()
    probes: dict[int, tuple[Probe, ...]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


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
    values = [
        source[name]
        for source in (shape.annotation_map, of_namespace)
        for name in DEFAULT_ACCESS
        if name in source
    ]
    plan.access = default_access(mesh, values)
    plan.doubts.extend(f"{value!r} is no default access" for value in values if parse_access(value) is None)
    plan.opaque = _opaque(shape, of_namespace, mesh, plan.doubts)
    return plan


def cluster_conditions(mesh: Mesh, protocol: Protocol, number: int) -> ClusterConditions:
    """Return what the cluster's rules with a `when` mean on a port (semantics T3)."""
    if protocol not in UNREAD:
        return ClusterConditions.EVALUATE
    listed = number in mesh.opaque_ports
    return ClusterConditions.PASS_OVER if listed else ClusterConditions.SATISFIED


def _opaque(shape: Shape, of_namespace: Mapping[str, str], mesh: Mesh, doubts: list[str]) -> frozenset[int]:
    """Return the pod's annotation, else its namespace's, else MeshDefaults' list (decision record 3)."""
    for source in (shape.annotation_map, of_namespace):
        written = [source[name] for name in OPAQUE_PORTS if name in source]
        if written:
            return frozenset(port for text in written for port in _ports_in(text, shape.ports, doubts))
    return mesh.opaque_ports


def _ports_in(text: str, declared: Iterable[ContainerPort], doubts: list[str]) -> Iterable[int]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _RANGE.fullmatch(part)
        if found is None:
            named = [port.number for port in declared if port.name == part]
            if not named:
                doubts.append(f"{part!r} is no port, range or container port of this workload")
            yield from named
            continue
        first, last = int(found[1]), int(found[2] or found[1])
        if not 1 <= first <= last <= 65535:
            doubts.append(f"{part!r} is no port or range between 1 and 65535")
            continue
        yield from range(first, last + 1)


def _probes(declared: Iterable[DeclaredProbe]) -> dict[int, tuple[Probe, ...]]:
    found: dict[int, set[Probe]] = {}
    for probe in declared:
        row = Probe(_PROBE_KINDS[probe.kind], probe.target, probe.headers, probe.service)
        found.setdefault(probe.port, set()).add(row)
    return {number: tuple(sorted(rows)) for number, rows in found.items()}
