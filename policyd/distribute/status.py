"""Who enforces what, for `policyctl status`, as JSON over a Unix socket of the operator's own.

One line in, one line out: `{"ask": "status"}`; `{"ask": "table", "version": "sha256:…"}` for the bytes of a
snapshot or of pod facts; what `policyd.audit.asks` answers. Nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path

from policyd.audit import asks
from policyd.audit.asks import ASKS
from policyd.audit.store import Store
from policyd.distribute.controller import Controller
from policyd.distribute.session import Session
from policyd.engine import StreamView
from policyd.index.workloads import POD
from policyd.resources.base import Resource
from policyd.resources.workload import Pod

MOST_LINE_BYTES = 64 * 1024
ANSWER_SECONDS = 30.0
"""A question to a big store takes a while."""

Answer = Mapping[str, object]


def status_of(controller: Controller, store: Store | None = None) -> Answer:
    """Return the whole picture: proxies, pods without one connected, what is wrong with sources and store."""
    sessions = controller.sessions
    standing = controller.standing()
    connected = {session.pod_key for session in sessions}
    return {
        "trustDomain": controller.trust_domain,
        "epoch": standing.epoch,
        "extraClusterNetworks": list(controller.networks),
        "basis": [{"source": source, "kind": kind, "revision": at} for source, kind, at in standing.basis],
        "broken": controller.broken,
        "stateHash": controller.world.state_hash,
        "proxies": sorted(
            (
                _proxy(controller, session, view)
                for session in sessions
                if (view := session.view()) is not None
            ),
            key=lambda row: str(row["pod"]),
        ),
        "running": [name for _, name, running in _meshed_pods(controller) if running],
        "notConnected": [name for uid, name, _ in _meshed_pods(controller) if uid not in connected],
        "findings": [found.text for findings in controller.findings.values() for found in findings],
        "audit": None if store is None else _audit(store),
    }


def _audit(store: Store) -> dict[str, object]:
    standing = store.standing
    return {
        "folder": standing.folder,
        "problem": standing.problem,
        "records": standing.records,
        "lost": standing.lost,
        "bytes": standing.size_bytes,
        "rolledBack": standing.rolled_back,
    }


def _proxy(controller: Controller, session: Session, view: StreamView) -> dict[str, object]:
    key = controller.world.workloads.pod_by_uid(session.pod_key)
    return {
        "pod": f"{key.namespace}/{key.name}" if key else session.pod_key,
        "workload": session.workload,
        "identity": str(session.caller.identity),
        "state": view.state,
        "detail": view.detail,
        "wanted": _text(session.wanted),
        "enforced": _text(view.enforced),
        "current": session.is_current(controller, view),
        "readerVersion": session.reader_version,
        "narrowed": session.narrowed,
    }


def _meshed_pods(controller: Controller) -> list[tuple[str, str, bool]]:
    """Return uid, name and whether it runs, of every pod with a proxy."""
    return [
        (
            found.meta.uid or "",
            f"{found.meta.namespace}/{found.meta.name}",
            found.spec.status.phase == "Running",
        )
        for found in controller.world.of_kind(*POD)
        if isinstance(found, Resource) and isinstance(found.spec, Pod) and found.spec.is_meshed
    ]


def _text(sha256: bytes) -> str | None:
    return f"sha256:{sha256.hex()}" if sha256 else None


class StatusSocket:
    """Answers questions on a Unix socket (0600)."""

    def __init__(self, path: Path, controller: Controller, store: Store | None = None) -> None:
        self._path = path
        self._controller = controller
        self._store = store
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to listen. A socket that a dead process left behind is replaced."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MOST_LINE_BYTES)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(json.dumps(await self._answer(await reader.readline())).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # whoever asked is gone, or asked more than a line can hold
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            question = json.loads(line)
        except ValueError:
            return {"error": "expected one line of JSON"}
        ask = str(question.get("ask")) if isinstance(question, dict) else ""
        if ask == "status":
            return status_of(self._controller, self._store)
        told = self._controller.told.find(str(question.get("version"))) if ask == "table" else None
        if told is not None:
            return {"version": question["version"], "content": base64.b64encode(told).decode()}
        if self._store is None or ask not in ASKS:
            return {"error": f"expected ask to be one of {', '.join(('status', *ASKS))}"}
        return await asyncio.to_thread(asks.answer, self._store, question)
