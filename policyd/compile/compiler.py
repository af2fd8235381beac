"""The compiler over a live world: a table for every workload shape, made again where a change touched it.

A table is made when it is asked for, so that nobody waits for those of others (P-8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from policyd.compile.authorizations import Meaning
from policyd.compile.cluster import compile_cluster
from policyd.compile.context import CLUSTER_RULES, MESH, Context
from policyd.compile.external import refused_externals
from policyd.compile.memo import Memo
from policyd.compile.mesh import MESH_DEFAULTS, cluster_rules_of, defaults_of, mesh_of
from policyd.compile.refusing import refusing
from policyd.compile.rows import Access
from policyd.compile.table import (
    CompiledTable,
    EncodedCluster,
    assemble,
    encode_cluster,
    encode_workload,
    is_older,
    narrowed,
)
from policyd.compile.workload import Compiled, compile_workload
from policyd.errors import EngineError
from policyd.index.affected import Affected, Fact
from policyd.index.shapes import Shape
from policyd.index.targets import namespace_key
from policyd.index.view import View
from policyd.index.workloads import EXTERNAL
from policyd.index.world import Change, World
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey, WorkloadName
from policyd.model.origin import Origin
from policyd.resources.mesh_defaults import MeshDefaults

DEFAULT_TRUST_DOMAIN = "cluster.local"
CLUSTER = "cluster"
"""The key of a failure of the cluster's part; those of workloads have the key of their shape."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A shape's table, and the bytes of its own part, which a change of the cluster leaves as they are."""

    compiled: Compiled
    part: bytes
    table: CompiledTable


class Compiler:
    """Owns a world and the tables of it. Not safe for threads."""

    def __init__(self, world: World | None = None, trust_domain: str = DEFAULT_TRUST_DOMAIN) -> None:
        self.world = World() if world is None else world
        self.trust_domain = trust_domain
        defaults = self._defaults()
        self._context = Context(Memo(self.world), mesh_of(defaults, trust_domain), cluster_rules_of(defaults))
        self._cluster = encode_cluster(compile_cluster(defaults, trust_domain))
        self._made: dict[str, _Made] = {}
        self._narrowed: dict[tuple[str, int], tuple[CompiledTable, CompiledTable]] = {}
        self.refused = refused_externals(self.world, defaults, trust_domain)
        """ExternalWorkloads that have no table, and why (semantics W6)."""
        self.failures: dict[str, Finding] = {}
        """What the engine refused, and why, by shape, of the tables made so far. Such a table refuses
        everything."""
        self._stale = set(self.world.workloads.shape_keys())
        for shape in self.stale:
            self.make(shape)

    @property
    def tables(self) -> dict[WorkloadName, CompiledTable]:
        """The table of every workload that has one."""
        found = ((name, self.table(name)) for name in self.world.workloads.names())
        return {name: table for name, table in found if table is not None}

    @property
    def max_default(self) -> Access:
        """The widest that a port's default without a Server can be (semantics W4)."""
        return self._context.mesh.max_default

    @property
    def cluster(self) -> EncodedCluster:
        """The part that all tables share."""
        return self._cluster

    @property
    def stale(self) -> tuple[str, ...]:
        """The shapes whose tables are still to be made, since a change touched them."""
        return tuple(self._stale)

    def table(self, name: WorkloadName) -> CompiledTable | None:
        """Return a workload's table: its template's, else its first pod's.

        None where it is unknown, or an ExternalWorkload that may not have one.
        """
        shapes = [] if name in self.refused else self.world.workloads.shapes_of(name)
        return self._table_of(shapes[0].key) if shapes else None

    def table_of_member(self, key: ObjectKey, reader_version: int | None = None) -> CompiledTable | None:
        """Return the table of a pod or ExternalWorkload; a pod's may differ from its template's.

        For a reader of a version that is given it is one that it can read. Raises SnapshotError.
        """
        member = self.world.workloads.member(key)
        if member is None or member.shape is None or self.world.workloads.workload_of(key) in self.refused:
            return None
        table = self._table_of(member.shape.key)
        if table is None or reader_version is None or not is_older(reader_version):
            return table
        return self._narrow(table, reader_version)

    def _narrow(self, table: CompiledTable, reader_version: int) -> CompiledTable:
        """Return what an older reader gets, made once for each table; the last of each shape is kept."""
        key = (table.shape, reader_version)
        whole, made = self._narrowed.get(key, (None, None))
        if whole is not table or made is None:
            made = narrowed(table, reader_version)
            self._narrowed[key] = (table, made)
        return made

    def _table_of(self, shape: str) -> CompiledTable | None:
        """Return a shape's table as of now: nothing that a change has touched is ever seen."""
        self.make(shape)
        made = self._made.get(shape)
        return None if made is None else made.table

    def meaning(self, policy: ObjectKey) -> Meaning:
        """Return what a policy means, apart from any workload."""
        return self._context.meaning(View(self.world), policy)

    def locate(self, origin: str) -> Origin | None:
        """Return where an origin of a row (`group/kind/namespace/name:field.path`) was written."""
        key, field = parse_origin(origin)
        found = self.world.objects.get(key)
        return None if found is None else found.position(field)

    def take(self, changes: Iterable[Change]) -> int:
        """Take over a batch as one; return how many tables it touched, which are made when asked for."""
        affected = self.world.apply(changes)
        return len(self._touch(affected)) if affected else 0

    def apply(self, changes: Iterable[Change]) -> frozenset[WorkloadName]:
        """Take over a batch and make its tables; return the workloads whose table is another or gone."""
        for shape in self.stale:
            self.make(shape)
        affected = self.world.apply(changes)
        if not affected:
            return frozenset()
        refused = self.refused.keys()
        changed = set(affected.workloads)
        for shape in self._touch(affected):
            before = self._made.get(shape)
            table = self._table_of(shape)
            if before is None or table is None or before.table.version != table.version:
                changed |= self.world.workloads.users_of(shape)
        return frozenset(changed | (refused ^ self.refused.keys()))

    def _touch(self, affected: Affected) -> set[str]:
        """Note what is to be made anew; return the shapes whose tables may be others now.

        Nothing else is looked at, so that an edit costs the same however many others there are (P-8).
        """
        facts = set(affected.facts)
        cluster_failed = CLUSTER in self.failures
        cluster_changed = Fact("object", MESH_DEFAULTS) in facts and self._update_cluster(facts)
        if any(fact.of == MESH_DEFAULTS or _is_external(fact.of) for fact in affected.facts):
            self.refused = refused_externals(self.world, self._defaults(), self.trust_domain)
        for shape in affected.shapes_removed:
            self._context.memo.drop(("table", shape))
            self._made.pop(shape, None)
            self._stale.discard(shape)
            self.failures.pop(shape, None)
            for key in [key for key in self._narrowed if key[0] == shape]:
                del self._narrowed[key]
        stale = {str(key[1]) for key in self._context.memo.forget(facts) if key[0] == "table"}
        if cluster_changed or cluster_failed is not (CLUSTER in self.failures):
            stale = set(self.world.workloads.shape_keys())
        again = {shape for shape in stale | affected.shapes_added if self.world.workloads.has_shape(shape)}
        self._stale |= again
        return again

    def _update_cluster(self, facts: set[Fact]) -> bool:
        """Take over MeshDefaults, add what it touches to the facts; return whether the bytes differ."""
        defaults, context = self._defaults(), self._context
        mesh, rules = mesh_of(defaults, self.trust_domain), cluster_rules_of(defaults)
        facts |= {MESH} if mesh != context.mesh else set()
        facts |= {CLUSTER_RULES} if rules != context.cluster_rules else set()
        context.mesh, context.cluster_rules = mesh, rules
        before = self._cluster.part
        try:
            self._cluster = encode_cluster(compile_cluster(defaults, self.trust_domain))
        except EngineError as error:
            self.failures[CLUSTER] = _failure(MESH_DEFAULTS, error)
            return False
        self.failures.pop(CLUSTER, None)
        return before != self._cluster.part

    def make(self, key: str) -> None:
        """Make a shape's table where it is still to be made."""
        if key not in self._stale:
            return
        shape = self.world.workloads.shape(key)
        compiled = self._context.once(View(self.world), ("table", key), partial(self._workload, shape))
        failure = self.failures.get(CLUSTER)
        if failure is None:
            try:
                self._made[key] = self._make(key, compiled)
            except EngineError as error:
                failure = _failure(namespace_key(shape.namespace), error)
        if failure is None:
            self.failures.pop(key, None)
        else:
            self.failures[key] = failure
            self._made[key] = self._make(key, refusing(shape.namespace, failure))
        self._stale.discard(key)  # last: what was raised above is raised again, and no older table seen

    def _make(self, key: str, compiled: Compiled) -> _Made:
        """Raise EngineError where the engine refuses the rows."""
        before = self._made.get(key)
        if before is not None and before.compiled is compiled:
            part = before.part
        else:
            part = encode_workload(compiled.rows)
        return _Made(compiled, part, assemble(key, self._cluster, compiled, part))

    def _workload(self, shape: Shape, view: View) -> Compiled:
        return compile_workload(self._context, view, shape)

    def _defaults(self) -> MeshDefaults:
        return defaults_of(self.world.objects.get(MESH_DEFAULTS))


def parse_origin(text: str) -> tuple[ObjectKey, str]:
    """Read what `ObjectKey.at` writes. Raises ValueError."""
    place, _, field = text.partition(":")
    parts = place.split("/")
    if not 3 <= len(parts) <= 4:
        raise ValueError(f"{text!r} is no origin: expected group/kind/namespace/name:field.path")
    group, kind, name = parts[0], parts[1], parts[-1]
    namespace = parts[2] if len(parts) == 4 else ""
    return ObjectKey("" if group == "core" else group, kind, namespace, name), field


def _is_external(key: ObjectKey | str) -> bool:
    return isinstance(key, ObjectKey) and (key.group, key.kind) == EXTERNAL


def _failure(key: ObjectKey, error: EngineError) -> Finding:
    message = f"the engine refused rows that were made of it: {error}"
    advice = "the last good tables stay, where there were any; make policies smaller or fewer"
    return Finding("error", "TableRefused", message, key, advice=advice)
