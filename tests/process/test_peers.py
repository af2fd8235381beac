"""Peers that aren't who they say: other CAs, other trust domains, expired, plain TLS, the wrong account.

And those who were: what a TLS session that OpenSSL resumes is still good for.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from identity.material import create_root
from identity.spiffe_id import TrustDomain

from .http2 import serve
from .mesh import NOTHING, WAIT_SECONDS, Answer, Mesh, ask_database, exchange, http, make_svid, tls

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


@dataclass
class Returning:
    """A client that comes again and again, each time with the session it was given last."""

    context: ssl.SSLContext
    name: str
    session: ssl.SSLSession | None = None

    async def ask(self, address: tuple[str, int], path: str) -> tuple[bool, Answer]:
        """Return whether the session was resumed, and what came back; NOTHING where the connection ended."""
        return await asyncio.to_thread(self._ask, address, path)

    def _ask(self, address: tuple[str, int], path: str) -> tuple[bool, Answer]:
        request = f"GET {path} HTTP/1.1\r\nHost: books.test\r\nConnection: close\r\n\r\n".encode()
        with (
            socket.create_connection(address, WAIT_SECONDS) as plain,
            self.context.wrap_socket(plain, server_hostname=self.name, session=self.session) as stream,
        ):
            received = b""
            try:
                stream.sendall(request)
                while chunk := stream.recv(65536):
                    received += chunk
            except (ConnectionError, ssl.SSLError):
                pass
            self.session = stream.session
            found = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
            decision = re.search(rb"x-policyd-decision: (\S+)", received)
            headers = {"x-policyd-decision": decision[1].decode()} if decision else {}
            return bool(stream.session_reused), Answer(int(found[1]) if found else 0, headers, b"")

    async def until_full(self, address: tuple[str, int]) -> Answer:
        """Ask until the session is no longer honoured."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                resumed, answer = await self.ask(address, "/books")
                if not resumed:
                    return answer


def _returning(mesh: Mesh, alpn: str) -> Returning:
    svid = mesh.svid("books/traffic", mesh.pod("traffic-0").uid)
    return Returning(tls(svid, alpn), f"webapp.books.sa.{mesh.up.trust_domain}")


@pytest.mark.parametrize("alpn", ["policyd/1+http1", "http/1.1"])
async def test_tls_12_a_resumed_peer_is_decided_as_before(mesh: Mesh, alpn: str) -> None:
    """Of our own ALPN, and of an ordinary client that asks for our server name."""
    client, webapp = _returning(mesh, alpn), mesh.address("webapp-0", 7000)
    asked = [await client.ask(webapp, path) for path in ("/books", "/books", "/internal", "/books")]
    assert [resumed for resumed, _ in asked] == [False, True, True, True]
    assert [answer.status for _, answer in asked] == [200, 200, 403, 200]
    record = await mesh.denial(asked[2][1].decision)
    assert record["peer"]["identity"].endswith("/ns/books/sa/traffic")
    assert record["peer"]["podUID"] == mesh.pod("traffic-0").uid
    assert re.fullmatch("[0-9a-f]{64}", record["peer"]["certificateSHA256"])


async def test_tls_12_a_session_is_of_one_proxy_though_all_are_of_one_mesh(mesh: Mesh) -> None:
    client, webapp = _returning(mesh, "policyd/1+http1"), mesh.address("webapp-0", 7000)
    await client.ask(webapp, "/books")
    resumed, answer = await client.ask(mesh.address("authors-0", 7001), "/authors")
    assert (resumed, answer.status) == (False, 403)
    assert (await client.ask(mesh.address("authors-0", 7001), "/authors"))[0]


async def test_tls_12_a_session_ends_with_its_table_and_nobody_revoked_resumes(
    mesh: Mesh, manifests: Path
) -> None:
    client, webapp = _returning(mesh, "policyd/1+http1"), mesh.address("webapp-0", 7000)
    await client.ask(webapp, "/books")
    assert (await client.ask(webapp, "/books"))[0]
    defaults = manifests / "namespace.yaml"
    kept = defaults.read_text()
    gone = f"spiffe://{mesh.up.trust_domain}/ns/books/sa/traffic"
    line = "  defaultAccess: deny\n"
    defaults.write_text(kept.replace(line, f"{line}  revoked: [{{identity: '{gone}'}}]\n"))
    try:
        denied = [await client.until_full(webapp), (await client.ask(webapp, "/books"))[1]]
        # Answered, or cut before it could be.
        assert {answer.status for answer in denied} <= {0, 403}
        assert (await mesh.denial_that(pod="webapp-0", reason="peer_rejected"))["verdict"] == "deny"
    finally:
        defaults.write_text(kept)
    # Under another table what was proven is proven anew, once.
    assert (await client.until_full(webapp)).status == 200
    assert (await client.ask(webapp, "/books"))[0]


async def test_tls_12_a_restarted_proxy_knows_no_session(mesh: Mesh) -> None:
    client, webapp = _returning(mesh, "policyd/1+http1"), mesh.address("webapp-0", 7000)
    await client.ask(webapp, "/books")
    assert (await client.ask(webapp, "/books"))[0]
    replica = mesh.pod("webapp-0")
    await replica.proxy.stop()
    replica.proxy.start()
    await mesh.ready_again(replica)
    resumed, answer = await client.ask(webapp, "/books")
    assert (resumed, answer.status) == (False, 200)


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
