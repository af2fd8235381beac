"""A recorded denial, decided again on the very bytes that decided it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from policyd.compile.table import CompiledTable
from policyd.errors import ResourceError
from policyd.explain.manifests import Manifests, Place
from policyd.explain.past import Asked, TableRecord, attributed, past_of
from policyd.explain.question import Caller, Question
from policyd.explain.recorded import agrees, decision_of, facts_of, not_replayable, question_of, table_of
from policyd.explain.report import Report, unreplayed
from policyd.explain.story import gate_text, unlike_replayed
from policyd.resources.instants import read_instant

Record = Mapping[str, Any]
Replay = Callable[[Question, CompiledTable], Report]
"""Decides a question again on a table, and says everything about it."""


class Kept(Protocol):
    """What was kept beside a denial."""

    def content(self, version: object) -> bytes | None:
        """Return bytes by `sha256:…`; None where they aren't kept."""

    def tables(self, workload: object) -> Sequence[TableRecord]:
        """Return when which table came into force for a workload, the newest first."""


class NotKept(ResourceError):  # noqa: N818 - says what happened
    """Bytes that a denial was decided by, and that nobody has any more."""


def deciding_table(record: Record, kept: Kept) -> CompiledTable | None:
    """Return the table that decided; None where none did. Raises NotKept, EngineError."""
    if not_replayable(record) is not None:
        return None
    content = kept.content(record.get("table"))
    if content is None:
        raise NotKept(f"the table that decided it, {record.get('table')}, is not kept")
    return table_of(content)


def denial_report(
    record: Record, table: CompiledTable | None, kept: Kept, manifests: Manifests, place: Place, again: Replay
) -> Report:
    """Return the report on a denial. `table` is `deciding_table`'s. Raises NotKept, ResourceError."""
    if table is None:
        return _recorded_only(manifests, place, record, not_replayable(record) or "")
    facts = kept.content(record.get("facts"))
    if facts is None:
        raise NotKept(f"the pod facts that decided it, {record.get('facts')}, are not kept")
    question = question_of(record, facts_of(facts))
    answer = again(question, table)
    if not agrees(record, answer.decision):
        return _as_recorded(answer, record)
    tables = () if answer.decision.allowed else kept.tables(record.get("workload"))
    past = past_of(Asked(question, table), tables, kept.content) if tables else None
    return replace(
        answer,
        decision=msgspec.structs.replace(answer.decision, id=record.get("id")),
        past=None if past is None else attributed(past, manifests),
    )


def _as_recorded(answer: Report, record: Record) -> Report:
    """Return what was recorded, whatever a replay comes to; `now` and the fix are about the present."""
    told = decision_of(record)
    why = unlike_replayed(told, answer.decision, record.get("detail"))
    return replace(answer, decision=told, why=why, near_misses=())


def _recorded_only(manifests: Manifests, place: Place, record: Record, why_not: str) -> Report:
    told = decision_of(record)
    question = Question(
        int(record.get("port") or 0), read_instant(record.get("time")), Caller(told.peer.ip), {"tcp": {}}
    )
    detail = f": {record['detail']}" if record.get("detail") else ""
    why = gate_text(told) if told.gate else f"{why_not}{detail}"
    return unreplayed(manifests, place, question, told, why)
