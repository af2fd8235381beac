"""Where recorded denials are asked for: the running `policyctl up`, a store's folder, or a cluster."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from policyd.audit import asks
from policyd.audit.lite import SqliteDatabase
from policyd.audit.queries import Queries
from policyd.audit.schema import DATABASE
from policyd.cli.cluster import Cluster
from policyd.cli.cluster_trail import ClusterTrail
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Command
from policyd.cli.running import CODES, ask_up, socket_path
from policyd.explain.readable import printable

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def store_option(command: Command) -> Command:
    """Add --store; the command gets `store`, to give to `trail`."""
    option = click.option(
        "--store",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="A store's folder, to read by yourself.  [default: ask `policyctl up`, or the cluster]",
    )
    return option(command)


def trail(store: Path | None, cluster: Cluster | None = None, namespace: str | None = None) -> Ask:
    """Return who answers: the folder, the cluster that was named, a running `up`, or the usual cluster.

    `namespace` is that of denials of a cluster that are looked for by id. Raises Failure where the folder
    holds no store, or is named beside a cluster.
    """
    if store is None:
        if cluster is None and (socket_path().exists() or not Cluster().is_there):
            return ask_up
        return ClusterTrail(cluster or Cluster(), namespace)
    if cluster is not None:
        raise Failure("--store and a cluster: expected one of them")
    if not (store / DATABASE).is_file():
        raise Failure(f"{store}: no {DATABASE} in it", ExitCode.NOT_FOUND)
    queries = Queries(SqliteDatabase(store))

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = asks.answer(queries, question)
        if "error" in answer:
            raise Failure(str(answer["error"]), CODES.get(str(answer.get("code")), ExitCode.USAGE))
        return answer

    return ask


def find_denial(ask: Ask, written: str) -> Mapping[str, Any]:
    """Return the record of an id, of its beginning, or of a line that holds one. Raises Failure."""
    line = _as_record(written)
    identifier = str(line.get("id")) if line is not None else identifier_in(written)
    try:
        answer = ask({"ask": "denial", "id": identifier})
    except Failure as failure:
        if line is not None and failure.code is ExitCode.NOT_FOUND:
            return line
        raise
    refuse_ambiguous(identifier, answer)
    denial: Mapping[str, Any] = answer["denial"]
    return denial


def refuse_ambiguous(identifier: str, answer: Mapping[str, Any]) -> None:
    """Raise Failure where an id is the beginning of several."""
    if "ambiguous" in answer:
        listed = "\n".join(f"  {_candidate(each)}" for each in answer["ambiguous"])
        more = "" if answer["count"] == len(answer["ambiguous"]) else f"\n  of {answer['count']}"
        raise Failure(f"{identifier} is the beginning of several:\n{listed}{more}")


def identifier_in(written: str) -> str:
    """Return the id in what was written: an id, the beginning of one, or a proxy's line."""
    found = _ID.search(written)
    return found.group() if found else written.strip()


def kept_content(ask: Ask, version: object) -> bytes | None:
    """Return what policyd told a proxy, by its hash; None where it isn't kept."""
    if not isinstance(version, str):
        return None
    try:
        return base64.b64decode(ask({"ask": "table", "version": version})["content"])
    except Failure as failure:
        if failure.code is ExitCode.NOT_FOUND:
            return None
        raise


def _as_record(written: str) -> Mapping[str, Any] | None:
    """Return a proxy's line as the record it is."""
    try:
        record = msgspec.json.decode(written.strip().encode())
    except msgspec.MsgspecError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("id"), str) else None


def _candidate(record: Mapping[str, Any]) -> str:
    peer = record.get("peer") or {}
    who = peer.get("identity") or peer.get("ip") or "?"
    fields = (record.get(name) for name in ("id", "time", "workload", "reason"))
    return printable("  ".join(str(each) for each in (*fields, who)))
