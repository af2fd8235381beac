"""`policyctl explain ID`: a recorded denial, decided again on the very bytes that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import NO_SOURCE, Source
from policyd.cli.running import ask_up
from policyd.cli.trail import Ask, find_denial, kept_content
from policyd.compile.table import CompiledTable
from policyd.explain.manifests import Manifests, Place
from policyd.explain.past import Asked, Past, attributed, past_of, read_tables
from policyd.explain.question import Caller, Question
from policyd.explain.recorded import agrees, decision_of, facts_of, not_replayable, question_of, table_of
from policyd.explain.report import Report, replay, unreplayed
from policyd.explain.story import gate_text, unlike_replayed
from policyd.model.names import parse_workload
from policyd.resources.instants import read_instant


def denial_report(written: str, source: Source, ask: Ask) -> Report:
    """Return the report on a denial. Raises Failure, ResourceError, SourceError."""
    record = find_denial(ask, written)
    why_not = not_replayable(record)
    table = None if why_not else _table(ask, record)
    manifests = _manifests(source, table)
    place = _place(manifests, record)
    if why_not is not None or table is None:
        return _recorded_only(manifests, place, record, why_not or "")
    facts = kept_content(ask, record.get("facts"))
    if facts is None:
        raise Failure(
            f"the pod facts that decided it, {record.get('facts')}, are not kept", ExitCode.NOT_FOUND
        )
    question = question_of(record, facts_of(facts))
    answer = replay(manifests, place, question, table)
    if not agrees(record, answer.decision):
        return _as_recorded(answer, record)
    past = None if answer.decision.allowed else _past(ask, record, Asked(question, table))
    return replace(
        answer,
        decision=msgspec.structs.replace(answer.decision, id=record.get("id")),
        past=None if past is None else attributed(past, manifests),
    )


def _as_recorded(answer: Report, record: Mapping[str, Any]) -> Report:
    """Return what was recorded, whatever a replay comes to; `now` and the fix are about the present."""
    told = decision_of(record)
    why = unlike_replayed(told, answer.decision, record.get("detail"))
    return replace(answer, decision=told, why=why, near_misses=())


def _table(ask: Ask, record: Mapping[str, Any]) -> CompiledTable:
    content = kept_content(ask, record.get("table"))
    if content is None:
        raise Failure(f"the table that decided it, {record.get('table')}, is not kept", ExitCode.NOT_FOUND)
    return table_of(content)


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


def _past(ask: Ask, record: Mapping[str, Any], asked: Asked) -> Past | None:
    """Go back through what is kept of the workload; None where nothing is."""
    try:
        tables = read_tables(ask({"ask": "tables", "workload": record.get("workload")})["tables"])
    except Failure:
        return None  # the denial itself is explained all the same
    return past_of(asked, tables, partial(kept_content, ask)) if tables else None


def _recorded_only(manifests: Manifests, place: Place, record: Mapping[str, Any], why_not: str) -> Report:
    told = decision_of(record)
    question = Question(
        int(record.get("port") or 0), read_instant(record.get("time")), Caller(told.peer.ip), {"tcp": {}}
    )
    detail = f": {record['detail']}" if record.get("detail") else ""
    why = gate_text(told) if told.gate else f"{why_not}{detail}"
    return unreplayed(manifests, place, question, told, why)
