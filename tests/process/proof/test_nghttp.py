"""nghttp2's own programs, whose HTTP/2 is neither ours nor Rust's nor Python's, as clients."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from servicekit.svid import Svid
from tests.process.mesh import Mesh

from .reader import PORT, way, written
from .tools import libraries, tell, tool

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

REQUESTS, CLIENTS, STREAMS = 10_000, 4, 32
SECONDS = 120.0


async def run(program: str, *words: str) -> str:
    """What the program says."""
    process = await asyncio.create_subprocess_exec(
        tool(program),
        *words,
        env=libraries(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    return said.decode(errors="replace")


def files(svid: Svid, folder: Path) -> list[str]:
    """The options of a client certificate."""
    key, chain = folder / "key.pem", folder / "chain.pem"
    key.write_bytes(svid.key_pem)
    chain.write_bytes(b"".join(svid.chain_pem))
    return ["--key", str(key), "--cert", str(chain)]


@pytest.mark.parametrize("by", ["plaintext", "two proxies"])
async def test_h2load_has_all_its_requests_answered(mesh: Mesh, by: str) -> None:
    at = way(mesh, by, http2_application=True)
    words = [
        "-n",
        str(REQUESTS),
        "-c",
        str(CLIENTS),
        "-m",
        str(STREAMS),
        f"http://{at.host}:{at.port}/steady",
    ]
    said = await run("h2load", *words)
    told = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", _line(said, "requests:"))}
    tell(f"h2load by {by}: {_line(said, 'requests:')}; {_line(said, 'finished in')}")
    assert (told["succeeded"], told["failed"], told["errored"], told["timeout"]) == (REQUESTS, 0, 0, 0), said
    assert f"{REQUESTS} 2xx" in _line(said, "status codes:"), said


def _line(said: str, word: str) -> str:
    return next((line for line in said.splitlines() if line.startswith(word)), said)


async def test_nghttp_speaks_tls_by_the_servers_name_and_sends_trailers(mesh: Mesh, tmp_path: Path) -> None:
    """An ordinary client with a certificate of the mesh: `h2` is all it offers, and it asks for a name."""
    await written(mesh)
    host, _ = mesh.address("reader-0", PORT)
    name = f"reader.proof.sa.{mesh.up.trust_domain}"
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 4_000)
    svid = mesh.svid("proof/caller", mesh.pod("caller-0").uid)
    said = await run(
        "nghttp",
        *files(svid, tmp_path),
        "--no-verify-peer",
        "--verbose",
        "--header",
        f":authority: {name}",
        "--header",
        "content-type: application/grpc",
        "--trailer",
        "my-trailer: at the end",
        "--data",
        str(body),
        f"https://{host}:{PORT + 1}/trailers",
    )
    reads, broken = await written(mesh)
    assert broken == []
    assert len(reads) == 1, said
    request = reads[0].request
    assert request.first == (b"POST", b"/trailers", name.encode())
    assert request.body == body.read_bytes()
    assert request.trailers == ((b"my-trailer", b"at the end"),)
    assert f":status: {reads[0].answer.first[0].decode()}" in said, said
