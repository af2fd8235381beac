"""From a saved file to what is enforced (promise P-3)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from .mesh import Answer, Mesh, http

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBAPP = "books/webapp:80"
ENFORCED_SECONDS = 1.0
EDITOR = {"x-role": "editor"}


async def _until(mesh: Mesh, method: str, path: str, status: int) -> tuple[Answer, float]:
    """Ask until the answer is that; the answer and the seconds it took, which mustn't be many."""
    began = time.monotonic()
    async with asyncio.timeout(15):
        while True:
            answer = await http(mesh.listener("traffic-0", WEBAPP), method, path, headers=EDITOR)
            if answer.status == status:
                return answer, time.monotonic() - began


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.promise("P-3")
async def test_a_grant_and_its_end(mesh: Mesh, manifests: Path) -> None:
    denied = await http(mesh.listener("traffic-0", WEBAPP), "DELETE", "/books/2")
    assert denied.status == 403
    _replace(manifests / "webapp.yaml", "method: {in: [GET, POST]}", "method: {in: [GET, POST, DELETE]}")
    _, took = await _until(mesh, "DELETE", "/books/2", 200)
    assert took < ENFORCED_SECONDS
    _replace(manifests / "webapp.yaml", "method: {in: [GET, POST, DELETE]}", "method: {in: [GET, POST]}")
    _, took = await _until(mesh, "DELETE", "/books/2", 403)
    assert took < ENFORCED_SECONDS


@pytest.mark.promise("P-3")
async def test_deleting_an_authorization_refuses_and_cuts(mesh: Mesh, manifests: Path) -> None:
    """New requests within 1 s; what is open on TCP within 5 s."""
    host, port = mesh.listener("books-0", "books/database:5432")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"ALL books\n")
    assert await asyncio.wait_for(reader.readline(), 5)
    database, webapp = manifests / "database.yaml", manifests / "webapp.yaml"
    kept = database.read_text(), webapp.read_text()
    try:
        _without(database, "database-books")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        _without(webapp, "webapp-visitors")
        answer, took = await _until(mesh, "GET", "/books", 403)
        assert took < ENFORCED_SECONDS
        assert (await mesh.denial(answer.decision))["reason"] == "no_matching_rule"
    finally:
        writer.close()
        database.write_text(kept[0])
        webapp.write_text(kept[1])
    await _until(mesh, "GET", "/books", 200)


def _without(file: Path, name: str) -> None:
    """Remove the one document that is called so."""
    documents, named = file.read_text().split("\n---\n"), f"metadata: {{name: {name}, "
    rest = [document for document in documents if named not in document]
    assert len(rest) == len(documents) - 1
    file.write_text("\n---\n".join(rest))


async def test_a_broken_edit_is_said_and_the_rest_goes_on(mesh: Mesh, manifests: Path) -> None:
    """U6: the last good content of the file stays; U1: an unreadable object is said with its place."""
    rules = manifests / "rules.yaml"
    kept = rules.read_text()
    mesh.forget_records()
    try:
        rules.write_text(kept + "\n  : [\n")
        record = await mesh.service_record("source_problem")
        assert str(rules) in record["finding"]
        answer, _ = await _until(mesh, "GET", "/internal/x", 403)
        assert (await mesh.denial(answer.decision))["reason"] == "explicit_deny"
        rules.write_text(kept.replace("action: Deny", "action: Dney"))
        answer = await _reason(mesh, "/books", "policy_unreadable")
        assert answer.status == 403
    finally:
        rules.write_text(kept)
    await _until(mesh, "GET", "/books", 200)


async def _reason(mesh: Mesh, path: str, reason: str) -> Answer:
    async with asyncio.timeout(15):
        while True:
            answer = await http(mesh.listener("traffic-0", WEBAPP), "GET", path)
            # A 403 of books, which the webapp passes on, has no decision of its own.
            if answer.status != 403 or "x-policyd-decision" not in answer.headers:
                continue
            if (await mesh.denial(answer.decision))["reason"] == reason:
                return answer


async def test_more_replicas_come_and_go(mesh: Mesh, manifests: Path) -> None:
    authors = manifests / "authors.yaml"
    _replace(authors, "replicas: 1", "replicas: 2")
    await mesh.pods_are({"authors-0", "authors-1", "books-0", "database-0", "traffic-0", "webapp-0"})
    _replace(authors, "replicas: 2", "replicas: 1")
    await mesh.pods_are({"authors-0", "books-0", "database-0", "traffic-0", "webapp-0"})
    assert (await http(mesh.listener("traffic-0", WEBAPP), "GET", "/authors")).status == 200
