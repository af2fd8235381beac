"""Where recorded denials are asked for: the running `policyctl up`, or a store's folder."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from policyd.audit import asks
from policyd.audit.queries import Queries
from policyd.audit.schema import DATABASE
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Command
from policyd.cli.running import CODES, ask_up
from policyd.explain.render import printable

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def store_option(command: Command) -> Command:
    """Add --store; the command gets `store`, to give to `trail`."""
    option = click.option(
        "--store",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="A store's folder, to read by yourself.  [default: that of the running `policyctl up`]",
    )
    return option(command)


def trail(store: Path | None) -> Ask:
    """Return who answers. Raises Failure where the folder holds no store."""
    if store is None:
        return ask_up
    if not (store / DATABASE).is_file():
        raise Failure(f"{store}: no {DATABASE} in it", ExitCode.NOT_FOUND)
    queries = Queries(store)

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = asks.answer(queries, question)
        if "error" in answer:
            raise Failure(str(answer["error"]), CODES.get(str(answer.get("code")), ExitCode.USAGE))
        return answer

    return ask


def find_denial(ask: Ask, written: str) -> Mapping[str, Any]:
    """Return the record of an id, of its beginning, or of a line that holds one. Raises Failure."""
    line = _as_record(written)
    found = _ID.search(written)
    identifier = str(line.get("id")) if line is not None else found.group() if found else written.strip()
    try:
        answer = ask({"ask": "denial", "id": identifier})
    except Failure as failure:
        if line is not None and failure.code is ExitCode.NOT_FOUND:
            return line
        raise
    if "ambiguous" in answer:
        listed = "\n".join(f"  {_candidate(each)}" for each in answer["ambiguous"])
        more = "" if answer["count"] == len(answer["ambiguous"]) else f"\n  of {answer['count']}"
        raise Failure(f"{identifier} is the beginning of several:\n{listed}{more}")
    denial: Mapping[str, Any] = answer["denial"]
    return denial


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
