"""From rows to bytes: the one place in the compiler that asks the engine to encode."""

from __future__ import annotations

from dataclasses import dataclass

from policyd import engine
from policyd.compile.rows import ClusterPart, WorkloadPart, encode
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
