"""From rows to bytes: the one place in the compiler that asks the engine to encode."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from policyd import engine
from policyd.compile.rows import ClusterPart, Effect, WorkloadPart, encode
from policyd.compile.workload import Compiled
from policyd.model.finding import Finding


@dataclass(frozen=True, slots=True)
class EncodedCluster:
    """The cluster's part, encoded once for all workloads."""

    rows: ClusterPart
    part: bytes


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """All that the workloads of one shape enforce. `version` is `sha256:…` of the snapshot (semantics W8)."""

    shape: str
    snapshot: bytes
    version: str
    cluster: ClusterPart
    workload: WorkloadPart
    findings: tuple[Finding, ...]
    narrowed: int = 0
    """How many rules refuse only because the reader is too old for what they ask (promise P-16)."""


def encode_cluster(rows: ClusterPart) -> EncodedCluster:
    """Return the bytes of the rows. Raises SnapshotError where the engine refuses them."""
    return EncodedCluster(rows, engine.encode_cluster(encode(rows)))


def encode_workload(rows: WorkloadPart) -> bytes:
    """Return the bytes of the rows. Raises SnapshotError where the engine refuses them."""
    return engine.encode_workload(encode(rows))


def assemble(shape: str, cluster: EncodedCluster, compiled: Compiled, part: bytes) -> CompiledTable:
    """Return the table of both parts; `part` is the encoded workload's.

    It is read back as a proxy would, so that what a proxy would refuse never leaves. Raises SnapshotError.
    """
    snapshot = engine.assemble(cluster.part, part)
    version = engine.Table(snapshot).version
    return CompiledTable(shape, snapshot, version, cluster.rows, compiled.rows, compiled.findings)


def is_older(reader_version: int) -> bool:
    """Whether a reader may not know all that tables can hold."""
    return reader_version < engine.READER_VERSION


def narrowed(table: CompiledTable, reader_version: int) -> CompiledTable:
    """Return the table as an older reader can read it: what it can't express refuses.

    Raises SnapshotError.
    """
    cluster = engine.encode_cluster(encode(table.cluster), reader_version)
    workload = engine.encode_workload(encode(table.workload), reader_version)
    snapshot = engine.assemble(cluster, workload)
    if snapshot == table.snapshot:
        return table
    read = engine.Table(snapshot)
    refusing = _refusing(read.rows()) - sum(
        rule.effect is Effect.REFUSE for rule in (*table.cluster.rules, *table.workload.rules)
    )
    return replace(table, snapshot=snapshot, version=read.version, narrowed=max(1, refusing))


def _refusing(rows: bytes) -> int:
    parts = json.loads(rows)
    return sum(rule["effect"] == Effect.REFUSE for part in parts.values() for rule in part["rules"])
