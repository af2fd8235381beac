"""From the sources to what each pod is told: watch, compile, publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from policyd.audit.record import Writer
from policyd.audit.store import Content
from policyd.compile.cluster_networks import absent, with_networks
from policyd.compile.compiler import Compiler
from policyd.compile.rows import Port, Protocol
from policyd.compile.table import CompiledTable
from policyd.distribute.basis import Basis
from policyd.distribute.callers import known_pod_of, pod_of, refuse_revoked
from policyd.distribute.discovery import Discovery
from policyd.distribute.envelope import Hashes, Standing, Subject, sha256
from policyd.distribute.facts import addresses_of, facts_of
from policyd.distribute.merged import Merged
from policyd.distribute.publish import Publisher
from policyd.distribute.refusals import permission_denied
from policyd.distribute.session import Contents, Session
from policyd.distribute.told import Told
from policyd.distribute.trail import Telling, Trail
from policyd.errors import PolicydError, SourceError
from policyd.index.world import Change, World
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource
from policyd.resources.workload import Pod
from policyd.sources.events import Batch
from policyd.sources.source import Source
from policyd_api.v1 import stream_pb2 as wire
from servicekit.leaf import Leaf

OLDEST_READER = 1
"""The oldest reader of tables that there is; what a newer one brought refuses for it (promise P-16)."""

_PROTOCOLS = {
    Protocol.UNKNOWN: "unknown",
    Protocol.HTTP1: "HTTP/1",
    Protocol.HTTP2: "HTTP/2",
    Protocol.GRPC: "gRPC",
    Protocol.OPAQUE: "opaque",
    Protocol.TLS: "TLS",
}


class Controller:
    """Owns the world and its tables, on one event loop."""

    def __init__(self, sources: Sequence[Source], trust_domain: str, networks: tuple[str, ...] = ()) -> None:
        """Of an object in several sources, that of the first has effect."""
        self.trust_domain = trust_domain
        self.publisher = Publisher()
        self.told = Told()
        self.trail: Trail | None = None
        """Where what is told is kept for good."""
        self.findings: dict[str, tuple[Finding, ...]] = {}
        self.broken: str | None = None
        """Why the last change has no tables; nothing is told or confirmed meanwhile."""
        self.sources = tuple(sources)
        self.networks = networks
        """Networks of the cluster that MeshDefaults doesn't name."""
        self._merged = Merged(len(self.sources))
        self._compiler = Compiler(World(), trust_domain)
        self._basis: Basis | None = None
        self._services = Discovery(self._compiler.world, trust_domain, self._protocol)

    @property
    def world(self) -> World:
        return self._compiler.world

    @property
    def compiler(self) -> Compiler:
        return self._compiler

    @property
    def sessions(self) -> list[Session]:
        """The proxies that are connected now."""
        return [each for each in self.publisher.listeners if isinstance(each, Session)]

    async def start(self, basis: Basis) -> None:
        """Read everything for the first time. Raises SourceError where a source can't be read."""
        changes: list[Change] = absent(self.networks)
        for index, source in enumerate(self.sources):
            batch = await source.begin()
            self.findings[source.name] = batch.findings
            changes += with_networks(self._merged.take(index, batch), self.networks)
            if source.counts_itself:
                basis.take(source, batch)
        self._compiler.take(changes)
        self._services.changed({(key.group, key.kind) for key, _ in changes})
        self._basis = basis

    async def follow(self) -> None:
        """Follow all sources until cancelled; ends with an error where one can't be followed any more."""
        await asyncio.gather(*(self._follow(index, source) for index, source in enumerate(self.sources)))

    def close(self) -> None:
        """End the watches."""
        for source in self.sources:
            source.close()

    def hasten(self, held: wire.Held) -> None:
        """Find out soon whether there is what a proxy has been told beyond what we know."""
        for row in held.basis:
            for source in self.sources:
                if source.name == row.source:
                    source.hasten(row.kind, row.revision)

    async def _follow(self, index: int, source: Source) -> None:
        async for batch in source.batches():
            self._apply(index, source, batch)
        raise SourceError(f"{source.name}: no longer watched")

    def _apply(self, index: int, source: Source, batch: Batch) -> None:
        self._note_findings(source, batch)
        if batch.events:
            self._take(index, source, batch)
        elif self._basis is not None and self.broken is None:
            self._basis.take(source, batch)
            self._wake_withheld()

    def _note_findings(self, source: Source, batch: Batch) -> None:
        for finding in batch.findings:
            if finding not in self.findings.get(source.name, ()):
                structlog.get_logger().warning("source_problem", finding=finding.text)
        self.findings[source.name] = batch.findings

    def _wake_withheld(self) -> None:
        """Nothing changed, but more is known than before: who waited for that may be told."""
        for session in self.sessions:
            if session.is_withheld:
                session.wake()

    def _take(self, index: int, source: Source, batch: Batch) -> None:
        """Take a batch over; its tables are made as those who want them have their turns (P-8)."""
        began = time.monotonic()
        log = structlog.get_logger()
        try:
            touched = self._compiler.take(with_networks(self._merged.take(index, batch), self.networks))
            self.broken = None
        except PolicydError as error:
            # FAIL-CLOSED: what is enforced stays, unconfirmed, and becomes stale where maxTableAge says so.
            self.broken = str(error)
            log.error("compile_failed", problem=self.broken)
            return
        finally:
            self._services.changed({(event.key.group, event.key.kind) for event in batch.events})
        if self._basis is not None:
            self._basis.take(source, batch)
        millis = round((time.monotonic() - began) * 1000, 1)
        log.info("changed", events=len(batch.events), tables=touched, millis=millis)
        self.publisher.announce(batch)

    def standing(self) -> Standing:
        """Return epoch, basis and time as of now."""
        rows = () if self._basis is None else self._basis.rows()
        return Standing(self._compiler.cluster.rows.epoch, rows, now_millis())

    def contents(self, caller: Leaf, services: tuple[str, ...], reader_version: int) -> Contents:
        """Return what the caller's pod is to enforce; raises GRPCError."""
        if self.broken is not None:
            raise GRPCError(Status.UNAVAILABLE, f"COMPILE_FAILED: {self.broken}")
        if reader_version < OLDEST_READER:
            detail = f"READER_TOO_OLD: reads version {reader_version}, expected {OLDEST_READER} or higher"
            raise GRPCError(Status.FAILED_PRECONDITION, detail)
        refuse_revoked(self._compiler.cluster.rows.revoked, caller)
        pod = pod_of(self._compiler, caller)
        member = self.world.workloads.member(pod.key)
        table = self._table(pod.key, reader_version)
        if member is not None and member.shape is not None and member.shape.key in self._compiler.failures:
            # FAIL-CLOSED: an older table stays in force there, but nobody says that it still holds.
            problem = self._compiler.failures[member.shape.key].message
            raise GRPCError(Status.UNAVAILABLE, f"TABLE_REFUSED: {problem}")
        if table is None:
            raise permission_denied("NO_TABLE", f"{pod.key.text} may have no table")
        workload = self.world.workloads.workload_of(pod.key).text
        facts = self._facts(pod)
        discovery = self._services.of(services, pod.meta.namespace, addresses_of(pod))
        hashes = Hashes(
            bytes.fromhex(table.version.removeprefix("sha256:")), sha256(facts), sha256(discovery)
        )
        self.told.keep(hashes.snapshot, table.snapshot)
        self.told.keep(hashes.facts, facts)
        if self.trail is not None:
            kept = Content("facts", f"sha256:{hashes.facts.hex()}", facts)
            uid = caller.pod_uid or str(caller.identity)
            self.trail.told(self.world, Telling(uid, workload, pod.key, table, kept))
        subject = Subject(self.trust_domain, workload, caller.pod_uid or "")
        return Contents(subject, hashes, table.snapshot, facts, discovery, table.narrowed)

    def _table(self, pod: ObjectKey, reader_version: int) -> CompiledTable | None:
        try:
            return self._compiler.table_of_member(pod, reader_version)
        except PolicydError as error:
            raise GRPCError(Status.UNAVAILABLE, f"COMPILE_FAILED: {error}") from error

    def writer(self, caller: Leaf) -> Writer:
        """Return whose denials a caller delivers; raises GRPCError. A pod that is being deleted may still."""
        refuse_revoked(self._compiler.cluster.rows.revoked, caller)
        pod = known_pod_of(self._compiler, caller)
        workload = self.world.workloads.workload_of(pod.key).text
        uid = caller.pod_uid or ""
        return Writer(str(caller.identity), uid, pod.meta.namespace, pod.meta.name, workload)

    def _facts(self, member: Resource[object]) -> bytes:
        if isinstance(member.spec, Pod):
            return facts_of(self.world, member)
        return wire.PodFacts(name=member.meta.name).SerializeToString(deterministic=True)

    def _protocol(self, member: ObjectKey, number: int) -> str:
        table = self._compiler.table_of_member(member)
        return "unknown" if table is None else _PROTOCOLS[port_of(table, number).protocol]


def port_of(table: CompiledTable, number: int) -> Port:
    """Return the row of a port, or that of all others."""
    return next((port for port in table.workload.ports if port.number == number), table.workload.other)


def now_millis() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
