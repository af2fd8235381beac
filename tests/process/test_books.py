"""Each verdict of books, at the client and in the denial line."""

from __future__ import annotations

import pytest

from .mesh import Answer, Mesh, ask_database, http

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBAPP = "books/webapp:80"
EDITOR = {"x-role": "editor"}
BOOK = b'{"id": "9", "title": "Dawn"}'


async def _visit(mesh: Mesh, method: str, path: str, **more: object) -> Answer:
    return await http(mesh.listener("traffic-0", WEBAPP), method, path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/", {}, b"", 200),
        ("GET", "/books", {}, b"", 200),
        ("GET", "/authors", {}, b"", 200),
        ("POST", "/books", EDITOR, BOOK, 201),
    ],
)
async def test_allowed(
    mesh: Mesh, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = await _visit(mesh, method, path, headers=headers, body=body)
    assert answer.status == status, answer
    assert "x-policyd-decision" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "reason", "authorization"),
    [
        ("DELETE", "/books/9", EDITOR, 403, "no_matching_rule", None),
        ("GET", "/admin", {}, 403, "requirement_not_met", "webapp-admin-only"),
        ("GET", "/internal/x", {}, 403, "explicit_deny", "nothing-internal"),
        ("GET", "/INTERNAL;a/x", {}, 403, "explicit_deny", "nothing-internal"),
        ("GET", "/nowhere", {}, 404, "no_route", None),
        ("GET", "/books", {"x-impersonate": "root"}, 403, "explicit_deny", "no-impersonation"),
    ],
)
async def test_denied(
    mesh: Mesh,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    reason: str,
    authorization: str | None,
) -> None:
    answer = await _visit(mesh, method, path, headers=headers)
    assert answer.status == status, answer
    record = await mesh.denial(answer.decision)
    assert (record["verdict"], record["reason"], record["status"]) == ("deny", reason, status)
    assert (record["authorization"] or "").rpartition("/")[2] == (authorization or "")
    assert record["peer"]["identity"] == f"spiffe://{mesh.up.trust_domain}/ns/books/sa/traffic"
    assert record["peer"]["ip"] == mesh.pod("traffic-0").addresses.proxy
    assert record["request"]["method"] == method
    assert record["table"].startswith("sha256:")
    assert record["facts"].startswith("sha256:")


async def test_a_denial_between_applications_names_the_caller(mesh: Mesh) -> None:
    answer = await _visit(mesh, "POST", "/books", body=BOOK)
    assert answer.status == 403
    record = await mesh.denial_that(pod="books-0", reason="no_matching_rule")
    assert record["peer"]["identity"].endswith("/ns/books/sa/webapp")
    assert record["route"] == "httproute.gateway.networking.k8s.io/books/books-write"


async def test_an_audit_policy_records_and_lets_through(mesh: Mesh) -> None:
    assert (await _visit(mesh, "GET", "/books?all=1")).status == 200
    record = await mesh.denial_that(pod="books-0", event="would_deny")
    assert record["verdict"] == "allow"
    assert record["audit"]["authorizations"] == ["authorizationpolicy.policyd.dev/books/books-unpaged-reads"]


async def test_plaintext_is_a_peer_without_identity(mesh: Mesh) -> None:
    answer = await http(mesh.address("webapp-0", 7000), "GET", "/books")
    assert answer.status == 403
    record = await mesh.denial(answer.decision)
    assert (record["reason"], record["peer"]["identity"]) == ("no_identity", None)


async def test_a_port_without_a_server_has_the_namespaces_default(mesh: Mesh) -> None:
    assert (await http(mesh.listener("traffic-0", "books/webapp:7080"), "GET", "/status")).status == 200
    assert (await http(mesh.address("webapp-0", 7080), "GET", "/status")).status == 403


async def test_the_client_learns_nothing_of_the_policy(mesh: Mesh) -> None:
    answer = await _visit(mesh, "GET", "/admin")
    assert answer.body == b'{"decision":"%s","reason":"denied"}' % answer.decision.encode()


async def test_the_database_answers_those_it_knows(mesh: Mesh) -> None:
    primary, replica = "books/database:5432", "books/database:5433"
    assert await ask_database(mesh.listener("books-0", primary), "ALL books")
    assert await ask_database(mesh.listener("authors-0", replica), "ALL authors")
    for pod, service in (("authors-0", primary), ("webapp-0", replica)):
        assert await ask_database(mesh.listener(pod, service), "ALL books") is None
        account = pod.removesuffix("-0")
        record = await mesh.denial_that(pod="database-0", port=int(service[-4:]), status=None)
        assert record["peer"]["identity"].endswith(f"/sa/{account}")
        assert (record["reason"], record["request"]) == ("no_matching_rule", None)


async def test_plaintext_to_the_database_is_closed(mesh: Mesh) -> None:
    assert await ask_database(mesh.address("database-0", 5432), "ALL books") is None
    record = await mesh.denial_that(pod="database-0", reason="no_identity")
    assert record["server"] == "server.policyd.dev/books/database-primary"


async def test_a_request_that_could_be_read_two_ways_is_nobodys(mesh: Mesh) -> None:
    answer = await _visit(mesh, "GET", "/books", headers={"host": "other.test"})
    assert answer.status == 400
