"""A recorded denial as the question it was, replayed on the very table that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from policyd import engine
from policyd.compile.rows import ClusterPart, WorkloadPart
from policyd.compile.table import CompiledTable
from policyd.errors import ResourceError
from policyd.explain.answer import Explanation
from policyd.explain.question import Caller, Facts, Question, grpc_request, http_request
from policyd.resources.instants import read_instant
from policyd_api.v1 import stream_pb2 as wire

_DECISION = (
    "id",
    "status",
    "grpcStatus",
    "server",
    "route",
    "authorization",
    "origin",
    "table",
    "facts",
    "audit",
)


class _Rows(msgspec.Struct):
    cluster: ClusterPart
    workload: WorkloadPart


def table_of(snapshot: bytes) -> CompiledTable:
    """Return a table from a snapshot's bytes. Raises SnapshotError where they are none."""
    table = engine.Table(snapshot)
    rows = msgspec.json.decode(table.rows(), type=_Rows)
    return CompiledTable(
        rows.workload.workload_shape, snapshot, table.version, rows.cluster, rows.workload, ()
    )


def facts_of(content: bytes) -> Facts:
    """Return pod facts from their bytes."""
    facts = wire.PodFacts.FromString(content)
    return Facts(facts.uid, tuple(facts.addresses), tuple(facts.probe_addresses))


def not_replayable(record: Mapping[str, Any]) -> str | None:
    """Say why a denial can't be decided again; None where it can."""
    if record.get("direction") == "outbound":
        return "it was refused on the client's side, where no rule table decides"
    if record.get("gate"):
        return "the gate refused it, and bytes that it refuses are not recorded"
    if not isinstance(record.get("table"), str):
        return "it was decided without a rule table"
    cut = (record.get("request") or {}).get("cut")
    if cut:
        fields = ", ".join(str(each.get("field")) for each in cut if isinstance(each, dict))
        return f"it was too long to be recorded whole ({fields})"
    return None


def decision_of(record: Mapping[str, Any]) -> Explanation:
    """Return a decision as it was recorded. Raises ResourceError where the record isn't one."""
    peer = record.get("peer") or {}
    told = {"step": 0, **record, "peer": {"ip": str(peer.get("ip") or ""), "identity": peer.get("identity")}}
    told |= {name: None for name in _DECISION if name not in told}
    request = record.get("request")
    if isinstance(request, dict):
        told["request"] = {**request, "target": request.get("path")}
    try:
        return msgspec.convert(told, Explanation)
    except msgspec.ValidationError as error:
        raise ResourceError(f"the record is no decision: {error}") from error


def agrees(record: Mapping[str, Any], again: Explanation) -> bool:
    """Whether a replay came to what was recorded: a table's age and a certificate's dates are not."""
    recorded = decision_of(record)
    return all(
        getattr(recorded, field) == getattr(again, field) for field in ("verdict", "reason", "authorization")
    )


def question_of(record: Mapping[str, Any], facts: Facts) -> Question:
    """Return the question that a denial line records. Raises ResourceError where it can't be asked again.

    Query keys and headers that no rule reads are not recorded: nothing was decided by them.
    """
    problem = not_replayable(record)
    if problem is not None:
        raise ResourceError(problem)
    peer = record.get("peer") or {}
    caller = Caller(
        str(peer.get("ip") or ""),
        peer.get("identity"),
        peer.get("podUID"),
        peer.get("certificateSHA256"),
    )
    return Question(int(record["port"]), read_instant(record.get("time")), caller, _request_of(record), facts)


def _request_of(record: Mapping[str, Any]) -> dict[str, object]:
    request = record.get("request")
    if not request:
        return {"tcp": {"silent": False}}
    headers = [(str(name), str(value)) for name, value in request.get("headers", ())]
    query = urlencode([(str(key), str(value)) for key, value in request.get("query", ())])
    host, path = str(request.get("host", "")), str(request.get("path", "/"))
    if record.get("grpcStatus") is not None:
        service, _, method = path.strip("/").rpartition("/")
        return grpc_request(service, method, host, [pair for pair in headers if pair[0] != "content-type"])
    target = f"{path}?{query}" if query else path
    return http_request(str(request.get("method")), target, host, headers, str(request.get("version")))
