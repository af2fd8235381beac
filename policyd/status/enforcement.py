"""Which workloads an object concerns, and which of these enforce it now. Never more than is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from policyd.compile.compiler import Compiler
from policyd.compile.mesh import MESH_DEFAULTS
from policyd.compile.table import CompiledTable
from policyd.index.workloads import EXTERNAL, POD, Member
from policyd.model.names import WorkloadName
from policyd.resources.base import Resource
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.workload import Pod
from policyd.status.acks import Acks, pod_id, table_id
from policyd.status.conditions import Enforcement, Verdict
from policyd.status.reasons import (
    ALL_ENFORCE,
    ENFORCED,
    NO_WORKLOAD,
    NOT_CONNECTED,
    PENDING,
    WITHOUT_PROXY,
    Reason,
)

MOST_NAMED = 5
"""Pods that a message names; it says how many more there are."""
_WORST_FIRST = (WITHOUT_PROXY, NOT_CONNECTED, PENDING)

How = Literal["enforces", "pending", "not connected", "without proxy"]
_REASONS: dict[How, Reason] = {
    "pending": PENDING,
    "not connected": NOT_CONNECTED,
    "without proxy": WITHOUT_PROXY,
}
_SAYS: dict[How, str] = {
    "pending": "hasn't acknowledged the newest table",
    "not connected": "isn't connected",
    "without proxy": "has no proxy",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One workload that runs: the pods of it that don't enforce its newest table, and how each stands."""

    short: tuple[tuple[str, How], ...] = ()
    """(`namespace/name`, how)."""


def concerned(name: WorkloadName, table: CompiledTable) -> Iterator[tuple[str, WorkloadName]]:
    """Yield, by the name that tables have for it, each object of which this workload's table has anything."""
    part = table.workload
    texts = {rule.authorization for rule in part.rules}
    texts |= {port.server for port in part.ports if port.server}
    for text in texts:
        yield text, name
    yield MESH_DEFAULTS.text, name


def standing_of(compiler: Compiler, name: WorkloadName, acks: Acks) -> Standing | None:
    """Return how a workload stands; None where nothing of it runs."""
    found = [
        each
        for each in (_how(compiler, member, acks) for member in compiler.world.workloads.members(name))
        if each
    ]
    if not found:
        return None
    return Standing(tuple((pod, how) for pod, how in found if how != "enforces"))


def _how(compiler: Compiler, member: Member, acks: Acks) -> tuple[str, How] | None:
    """Return how a pod or ExternalWorkload stands; None for what is neither, or doesn't run."""
    found = compiler.world.objects.get(member.key)
    kind = (member.key.group, member.key.kind)
    if not isinstance(found, Resource) or kind not in {POD, EXTERNAL}:
        return None
    called = f"{member.key.namespace}/{member.key.name}"
    speaks = member.uid or ""
    if isinstance(found.spec, Pod):
        if found.spec.status.phase != "Running" or found.meta.deletion is not None:
            return None
        if not found.spec.is_meshed:
            return called, "without proxy"
    elif isinstance(found.spec, ExternalWorkloadSpec):
        speaks = str(found.spec.mesh_tls.identity)
    tables = acks.get(pod_id(speaks), frozenset())
    if not tables:
        return called, "not connected"
    table = compiler.table_of_member(member.key)
    # All that speak of a pod must agree: a replica may not know yet that it went to another.
    wanted = None if table is None else frozenset({table_id(table.version)})
    return called, "enforces" if tables == wanted else "pending"


def enforcement_of(
    workloads: Iterable[WorkloadName], standings: Mapping[WorkloadName, Standing]
) -> Enforcement:
    """Return how many of the workloads that run enforce, and what keeps the others."""
    running = [(name, standings[name]) for name in workloads if name in standings]
    if not running:
        return Enforcement(0, 0, Verdict(ENFORCED, False, NO_WORKLOAD.name, NO_WORKLOAD.means))
    short = [each for _, standing in sorted(running) for each in standing.short]
    enforcing = sum(not standing.short for _, standing in running)
    if not short:
        return Enforcement(
            len(running), enforcing, Verdict(ENFORCED, True, ALL_ENFORCE.name, ALL_ENFORCE.means)
        )
    by_reason: dict[Reason, list[str]] = defaultdict(list)
    for pod, how in short:
        by_reason[_REASONS[how]].append(f"{pod} {_SAYS[how]}")
    worst_first = [text for reason in _WORST_FIRST for text in by_reason[reason]]
    message = f"{enforcing} of {len(running)} workloads; {', '.join(worst_first[:MOST_NAMED])}"
    if len(worst_first) > MOST_NAMED:
        message += f" and {len(worst_first) - MOST_NAMED} more"
    worst = next(reason for reason in _WORST_FIRST if by_reason[reason])
    return Enforcement(len(running), enforcing, Verdict(ENFORCED, False, worst.name, message))
