"""All that statuses and Events are to say, of one moment: findings as `check` prints them, and acks.

Made in slices, between which policyd goes on telling proxies.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from policyd.compile.compiler import Compiler
from policyd.compile.report import steps
from policyd.index.world import Object
from policyd.model.finding import Finding
from policyd.model.names import CORE, POLICYD, ObjectKey, WorkloadName
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource
from policyd.status.acks import Acks
from policyd.status.conditions import Wanted, verdicts_of
from policyd.status.enforcement import Standing, concerned, enforcement_of, standing_of
from policyd.status.held import OURS, ROUTES
from policyd.status.route_parents import parents_wanted
from policyd.status.writer import Want, WantedParents
from policyd.turns import SLICE_SECONDS

_RULES = frozenset({"Server", "AuthorizationPolicy", "RegoPolicy", "MeshDefaults"})
"""Of our kinds those that tables have rows of; the others are only referred to."""


@dataclass(slots=True)
class Picture:
    """What is to be said."""

    wanted: dict[ObjectKey, Want] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    """About objects that have no status of ours."""
    ends_at: datetime | None = None
    """When it is another, though nobody changes anything: the next end of a grant."""
    seconds: float = 0.0
    """What it took of the loop's time."""


class Slices:
    """Gives the loop to others every few milliseconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Let others work, if it is their turn."""
        took = time.perf_counter() - self._began
        if took >= SLICE_SECONDS:
            self.seconds += took
            await asyncio.sleep(0)
            self._began = time.perf_counter()


async def take(compiler: Compiler, acks: Acks, now: datetime | None = None) -> Picture:
    """Look at everything. What changes meanwhile is left out, and is in the next picture."""
    now = now or datetime.now(UTC)
    slices, made = Slices(), Picture()
    objects = dict(compiler.world.objects)
    findings: dict[ObjectKey, list[Finding]] = defaultdict(list)
    for step in steps(compiler, now):
        if step is None:
            await slices.pause()
        elif step.key is not None:
            findings[step.key].append(step)
    reach, standings = await _workloads(compiler, acks, slices)
    for key, found in objects.items():
        want = _wanted(found, findings.get(key, ()), reach, standings)
        if want is not None and compiler.world.objects.get(key) is found:
            made.wanted[key] = want
            await slices.pause()
    made.findings = list(_told_by_events(compiler, findings))
    made.ends_at = min(_ends(objects.values(), now), default=None)
    made.seconds = slices.seconds
    return made


async def _workloads(
    compiler: Compiler, acks: Acks, slices: Slices
) -> tuple[Mapping[str, list[WorkloadName]], Mapping[WorkloadName, Standing]]:
    """Return which workloads each object concerns, and how those stand that run."""
    reach: dict[str, list[WorkloadName]] = defaultdict(list)
    standings: dict[WorkloadName, Standing] = {}
    for name in compiler.world.workloads.names():
        table = compiler.table(name)
        standing = None if table is None else standing_of(compiler, name, acks)
        if table is not None and standing is not None:
            standings[name] = standing
            for text, workload in concerned(name, table):
                reach[text].append(workload)
        await slices.pause()
    return reach, standings


def _wanted(
    found: Object,
    findings: Iterable[Finding],
    reach: Mapping[str, list[WorkloadName]],
    standings: Mapping[WorkloadName, Standing],
) -> Want | None:
    """Return what an object's status is to say; None for kinds without a status of ours."""
    key, uid, generation = found.key, found.meta.uid or "", found.meta.generation or 0
    kind = (key.group, key.kind)
    if not uid or kind not in OURS | ROUTES:
        return None
    if kind in ROUTES:
        return WantedParents(uid, generation, parents_wanted(found, findings))
    enforcement = None
    if key.kind in _RULES:
        enforcement = enforcement_of(reach.get(key.text, ()), standings)
    return Wanted(uid, generation, verdicts_of(findings), enforcement)


def _told_by_events(compiler: Compiler, findings: Mapping[ObjectKey, Iterable[Finding]]) -> Iterator[Finding]:
    for key, found in findings.items():
        if (key.group, key.kind) not in OURS | ROUTES and not _is_its_owners(compiler, key):
            yield from dict.fromkeys(found)


def _is_its_owners(compiler: Compiler, key: ObjectKey) -> bool:
    """Whether a pod is as its owner's template says: one Event on that is worth more than one on each pod."""
    if (key.group, key.kind) != (CORE, "Pod"):
        return False
    member = compiler.world.workloads.member(key)
    return member is not None and member.owner is not None and member.owner in compiler.world.objects


def _ends(objects: Iterable[Object], now: datetime) -> Iterator[datetime]:
    """Yield when grants end that haven't."""
    for found in objects:
        if found.key.group == POLICYD and isinstance(found, Resource):
            spec = found.spec
            until = spec.valid_until if isinstance(spec, AuthorizationPolicySpec) else None
            if until is not None and until > now:
                yield until
