"""`policyctl explain ID`: a recorded denial, explained where the manifests are."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kubeapi.errors import AccessError, ApiError
from policyd.cli.cluster import Cluster
from policyd.cli.cluster_trail import ClusterTrail
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import NO_SOURCE, Source
from policyd.cli.output import say
from policyd.cli.running import ask_up
from policyd.cli.trail import Ask, find_denial, identifier_in, kept_content, refuse_ambiguous
from policyd.compile.table import CompiledTable
from policyd.explain.denial import NotKept, deciding_table
from policyd.explain.denial import denial_report as explained
from policyd.explain.fix import smallest_fix
from policyd.explain.manifests import Manifests, Place
from policyd.explain.past import TableRecord, read_tables
from policyd.explain.recorded import facts_of, question_of
from policyd.explain.report import Report, replay
from policyd.explain.told import report_of
from policyd.model.names import parse_workload


@dataclass(frozen=True, slots=True)
class _KeptByTrail:
    """What the trail has beside a denial."""

    ask: Ask

    def content(self, version: object) -> bytes | None:
        return kept_content(self.ask, version)

    def tables(self, workload: object) -> Sequence[TableRecord]:
        try:
            return read_tables(self.ask({"ask": "tables", "workload": workload})["tables"])
        except Failure:
            return ()  # the denial itself is explained all the same


def recorded_report(written: str, source: Source, ask: Ask) -> Report:
    """Return the report on a denial. Raises Failure, ResourceError, SourceError.

    In a cluster policyd makes it, which may see more than the user; the fix is sought here.
    """
    if isinstance(ask, ClusterTrail):
        return _clusters(written, source, ask)
    record = find_denial(ask, written)
    kept = _KeptByTrail(ask)
    try:
        table = deciding_table(record, kept)
        manifests = _manifests(source, table)
        place = _place(manifests, record)
        return explained(record, table, kept, manifests, place, partial(replay, manifests, place))
    except NotKept as error:
        raise Failure(str(error), ExitCode.NOT_FOUND) from error


def _clusters(written: str, source: Source, ask: ClusterTrail) -> Report:
    identifier = identifier_in(written)
    answer = ask.explanation(identifier)
    refuse_ambiguous(identifier, answer)
    for what in answer.get("withheld") or ():
        say(f"# not told: {what}")
    told = report_of(answer["explanation"], str(answer["trustDomain"]))
    manifests = _fixable(source, ask, told.trust_domain) if answer.get("facts") else None
    if manifests is None:
        return replace(told, is_sought=False)
    place = _place(manifests, answer["record"])
    question = question_of(answer["record"], facts_of(base64.b64decode(answer["facts"])))
    return replace(told, fix=smallest_fix(manifests, place, question))


def _fixable(source: Source, trail: ClusterTrail, trust_domain: str) -> Manifests | None:
    """Return where a fix is sought: in files, else in the cluster, if the user may read all of it himself."""
    if source.paths:
        return Manifests.read(source.paths, trust_domain)
    try:
        return trail.cluster.read(trust_domain)[0]
    except (ApiError, AccessError) as error:
        say(f"# no change is sought that would allow it: {error}; -f seeks one in manifests")
        return None


def _manifests(source: Source, table: CompiledTable | None) -> Manifests:
    """Read the source, in the trust domain of the deciding table and with the networks of a running `up`."""
    told = None if table is None else table.cluster.trust_domain
    try:
        status = ask_up({"ask": "status"})
    except Failure as failure:
        if not source.paths and source.cluster is None and not Cluster().is_there:
            raise Failure(NO_SOURCE, failure.code) from failure
        return source.read(told)
    if source.cluster is not None:
        return source.read(told)
    paths = source.paths or (Path(str(status["folder"])),)
    networks = tuple(status.get("extraClusterNetworks", ()))
    return Manifests.read(paths, told or str(status["trustDomain"]), networks)


def _place(manifests: Manifests, record: Mapping[str, Any]) -> Place:
    """Find the workload, which may be gone by now: then it has no table any more."""
    name = parse_workload(str(record.get("workload") or f"pod/{record.get('namespace')}/{record.get('pod')}"))
    return manifests.place(name) or Place(name, None, None)
