"""Peers that aren't who they say: other CAs, other trust domains, expired, plain TLS, the wrong account."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from identity.material import create_root
from identity.spiffe_id import TrustDomain

from .http2 import serve
from .mesh import NOTHING, Mesh, ask_database, exchange, http, make_svid, tls

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_certificate_of_ours_is_its_service_account(mesh: Mesh) -> None:
    """The counter-check to all others here: only the certificate differs."""
    svid = mesh.svid("books/traffic", mesh.pod("traffic-0").uid)
    answer = await http(mesh.address("webapp-0", 7000), "GET", "/books", context=tls(svid))
    assert answer.status == 200


async def test_the_wrong_service_account_is_denied_by_name(mesh: Mesh) -> None:
    answer = await http(
        mesh.address("webapp-0", 7000), "GET", "/books", context=tls(mesh.svid("books/authors"))
    )
    assert answer.status == 403
    record = await mesh.denial(answer.decision)
    assert (record["reason"], record["peer"]["identity"][-10:]) == ("no_matching_rule", "sa/authors")


@pytest.mark.parametrize("of", ["another CA", "another trust domain", "expired", "nobody"])
async def test_a_certificate_that_does_not_verify_is_refused(mesh: Mesh, tmp_path: Path, of: str) -> None:
    """I8: no HTTP answer, whatever is asked for."""
    name = TrustDomain(mesh.up.trust_domain)
    if of == "another CA":
        create_root(tmp_path / "ca", name)
        svid = make_svid(tmp_path / "ca", name, "books/traffic", None, timedelta(0))
    elif of == "another trust domain":
        create_root(tmp_path / "ca", TrustDomain("other.test"))
        svid = make_svid(tmp_path / "ca", TrustDomain("other.test"), "books/traffic", None, timedelta(0))
    else:
        svid = mesh.svid("books/traffic", age=timedelta(hours=1, minutes=30))
    context = tls(None if of == "nobody" else svid)
    assert await http(mesh.address("webapp-0", 7000), "GET", "/books", context=context) == NOTHING
    record = await mesh.denial_that(pod="webapp-0", reason="peer_rejected")
    assert record["verdict"] == "deny"
    assert (
        await ask_database(mesh.address("database-0", 5432), "ALL books", tls(svid, "policyd/1+tcp")) is None
    )


async def test_plain_tls_on_an_http_port_is_refused(mesh: Mesh) -> None:
    """T3: it isn't ours, so nothing in it can be read."""
    assert (
        await http(mesh.address("webapp-0", 7000), "GET", "/books", context=tls(alpn="http/1.1")) == NOTHING
    )
    assert (await mesh.denial_that(pod="webapp-0", reason="protocol_refused"))["status"] is None


async def test_plain_tls_on_an_opaque_port_brings_no_identity(mesh: Mesh) -> None:
    assert await ask_database(mesh.address("database-0", 5433), "ALL books", tls(alpn="")) is None
    record = await mesh.denial_that(pod="database-0", port=5433, reason="no_identity")
    assert record["peer"]["identity"] is None


async def test_bytes_on_an_http_port_are_refused(mesh: Mesh) -> None:
    assert b"HTTP/1.1 200" not in await exchange(
        *mesh.address("webapp-0", 7000), b"\x00\x01\x02 hello\r\n\r\n"
    )


async def test_an_endpoint_with_the_wrong_service_account_is_not_called(mesh: Mesh) -> None:
    """Somebody else answers at the webapp's address, with a certificate of the same mesh."""
    await _answered_by(mesh, "books/authors", 502)


async def test_the_same_with_the_right_one_is(mesh: Mesh) -> None:
    await _answered_by(mesh, "books/webapp", 200)


async def _answered_by(mesh: Mesh, account: str, status: int) -> None:
    webapp = mesh.pod("webapp-0")
    await webapp.proxy.stop()

    context = tls(mesh.svid(account, webapp.uid), "policyd/1+h2", server=True)
    server = await asyncio.start_server(serve, *mesh.address("webapp-0", 7000), ssl=context)
    try:
        answer_ = await http(mesh.listener("traffic-0", "books/webapp:80"), "GET", "/books")
        assert answer_.status == status
        if status == 502:
            record = await mesh.denial(answer_.decision)
            assert (record["reason"], record["direction"]) == ("peer_rejected", "outbound")
    finally:
        server.close()
        webapp.proxy.start()
        await mesh.ready_again(webapp)
