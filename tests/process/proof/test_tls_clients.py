"""Ordinary TLS clients with an SVID of the mesh: they ask for the server's name; both ends are verified.

Beside these: nghttp (`test_nghttp.py`) and httpx (`test_clients.py`).
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest

from servicekit.svid import Svid
from tests.process.mesh import WAIT_SECONDS, Mesh

from .reader import PORT, written

pytestmark = pytest.mark.asyncio(loop_scope="module")


def files(mesh: Mesh, svid: Svid, folder: Path) -> tuple[Path, Path]:
    """A client's key with its chain, and the roots, as files."""
    own = folder / "svid.pem"
    own.write_bytes(svid.key_pem + b"".join(svid.chain_pem))
    return own, mesh.up.control_plane.roots_file


def own_name(mesh: Mesh) -> str:
    """The DNS SAN of the reader's certificate."""
    return f"reader.proof.sa.{mesh.up.trust_domain}"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_curl_calls_by_name_with_an_svid(mesh: Mesh, tmp_path: Path, version: str) -> None:
    """With `--http2` curl offers `h2` and `http/1.1`, and is answered with the latter."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("NOT PROVED: curl isn't on this machine (the package `curl` gives it)")
    await written(mesh)
    own, roots = files(mesh, mesh.svid("proof/caller", mesh.pod("caller-0").uid), tmp_path)
    name, (host, port) = own_name(mesh), mesh.address("reader-0", PORT)
    words = ["--silent", "--show-error", "--max-time", "15", version, "--cacert", str(roots)]
    words += [
        "--resolve",
        f"{name}:{port}:{host}",
        f"https://{name}:{port}/steady",
        "--write-out",
        "%{http_code}",
    ]
    assert (await _run(curl, *words, "--cert", str(own)))[-3:] == "200"
    assert "000" in await _run(curl, *words), "without a certificate there is no answer"


async def _run(program: str, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 2 * WAIT_SECONDS)
    return said.decode(errors="replace")


@pytest.mark.parametrize("alpn", [[], ["http/1.1"], ["h2", "http/1.1"]])
async def test_python_ssl_verifies_the_name_and_shows_an_svid(
    mesh: Mesh, tmp_path: Path, alpn: list[str]
) -> None:
    own, roots = files(mesh, mesh.svid("proof/caller", mesh.pod("caller-0").uid), tmp_path)
    context = ssl.create_default_context(cafile=str(roots))
    context.load_cert_chain(own)
    if alpn:
        context.set_alpn_protocols(alpn)
    host, port = mesh.address("reader-0", PORT)
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=own_name(mesh))
    try:
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == ("http/1.1" if alpn else None)
        writer.write(b"GET /steady HTTP/1.1\r\nHost: %s\r\nX-Deny: 1\r\n\r\n" % own_name(mesh).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
    finally:
        writer.transport.abort()
    assert b" 403 " in head
    (decision,) = [
        line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"x-policyd-decision")
    ]
    record = await mesh.denial(decision.decode())
    assert record["peer"]["identity"] == f"spiffe://{mesh.up.trust_domain}/ns/proof/sa/caller"


async def test_another_name_is_not_ours_and_its_tls_goes_nowhere(mesh: Mesh, tmp_path: Path) -> None:
    """T3: TLS that is meant for the application can't be read on an HTTP port."""
    own, roots = files(mesh, mesh.svid("proof/caller", mesh.pod("caller-0").uid), tmp_path)
    context = ssl.create_default_context(cafile=str(roots))
    context.load_cert_chain(own)
    host, port = mesh.address("reader-0", PORT)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(host, port, ssl=context, server_hostname="other.test")
