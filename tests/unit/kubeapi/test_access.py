"""Where credentials come from, and that they are read again."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.credentials import Credentials
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from tests.unit.kubeapi.small_server import Pair, make_pair

PODS = ResourcePath("", "v1", "pods")


def _account(folder: Path, ca: Path, token: str = "one") -> Path:
    (folder / "token").write_text(token + "\n")
    (folder / "ca.crt").write_bytes(ca.read_bytes())
    (folder / "namespace").write_text("policyd")
    return folder


class Tls:
    """A server with TLS that keeps who spoke to it."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str | None, str | None]] = []
        self._runner: web.AppRunner | None = None

    async def start(self, pair: Pair, clients: Path | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_OPTIONAL
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context).start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        shown: Any = request.transport.get_extra_info("peercert") if request.transport else None
        name = shown["subject"][0][0][1] if shown else None
        self.seen.append((request.headers.get("Authorization"), name))
        return web.json_response({})


@pytest.fixture
async def tls() -> Any:
    server = Tls()
    yield server
    await server.stop()


async def test_no_pod_is_said(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="no pod"):
        Access.in_cluster(tmp_path, {})
    access = Access.in_cluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "1"})
    with pytest.raises(AccessError, match="token"):
        await access.current()


async def test_ct_02_token_and_ca_are_read_again(tmp_path: Path, tls: Tls) -> None:
    one, two = make_pair(tmp_path, "one"), make_pair(tmp_path, "two")
    await tls.start(one)
    folder = _account(tmp_path, one.certificate)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(tls.port)}
    access = Access.in_cluster(folder, environ)
    assert access.namespace == "policyd"
    async with Client(access, "m") as client:
        await client.get(PODS, "a")
        await tls.stop()
        await tls.start(two)
        with pytest.raises(ApiError):
            await client.get(PODS, "a")
        _account(folder, two.certificate, "two")
        access._read_at -= 60.0  # as if a minute had passed
        await client.get(PODS, "a")
    assert [token for token, _ in tls.seen] == ["Bearer one", "Bearer two"]


async def test_what_cannot_be_read_again_stays(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "one")
    folder = _account(tmp_path, pair.certificate)
    access = Access.in_cluster(
        folder, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    )
    first = await access.current()
    context = access.tls(first)
    for broken in ("", "two words"):
        (folder / "token").write_text(broken)
        access._read_at -= 60.0
        assert await access.current() == first
    _account(folder, pair.certificate, "two")
    access._read_at -= 60.0
    second = await access.current()
    assert second.authorization == "Bearer two"
    assert access.tls(second) is context, "an unchanged CA keeps its connections"
    (folder / "ca.crt").write_text("no certificate")
    access._read_at -= 60.0
    assert await access.current() == second


def _config(file: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}, {"name": "other", "user": {"token": "other"}}],
        "contexts": [
            {"name": "first", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "second", "context": {"cluster": "c", "user": "other"}},
        ],
        "current-context": "first",
    }
    file.write_text(yaml.safe_dump(content))
    return file


async def test_kubeconfig_with_a_certificate(tmp_path: Path, tls: Tls) -> None:
    pair, mine = make_pair(tmp_path, "one"), make_pair(tmp_path, "mine")
    await tls.start(pair, clients=mine.certificate)
    data = {
        "client-certificate-data": base64.b64encode(mine.certificate.read_bytes()).decode(),
        "client-key-data": base64.b64encode(mine.key.read_bytes()).decode(),
    }
    file = _config(
        tmp_path / "config",
        f"https://127.0.0.1:{tls.port}",
        data,
        **{"certificate-authority": "one.crt"},
    )
    access = Access.kubeconfig(file)
    assert access.namespace == "shop"
    async with Client(access, "m") as client:
        await client.get(PODS, "a")
    async with Client(Access.kubeconfig(file, "second"), "m") as client:
        await client.get(PODS, "a")
    assert tls.seen == [(None, "mine"), ("Bearer other", None)]


async def test_kubeconfig_without_verification_only_where_it_says_so(tmp_path: Path, tls: Tls) -> None:
    pair, other = make_pair(tmp_path, "one"), make_pair(tmp_path, "other")
    await tls.start(pair)
    server, user = f"https://127.0.0.1:{tls.port}", {"token": "t"}
    strict = _config(tmp_path / "strict", server, user, **{"certificate-authority": str(other.certificate)})
    async with Client(Access.kubeconfig(strict), "m") as client:
        with pytest.raises(ApiError, match=r"(?i)certificate"):
            await client.get(PODS, "a")
    lax = _config(tmp_path / "lax", server, user, **{"insecure-skip-tls-verify": True})
    async with Client(Access.kubeconfig(lax), "m") as client:
        await client.get(PODS, "a")
    assert tls.seen == [("Bearer t", None)]


async def test_ct_02_a_file_with_a_token_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    access = Access.kubeconfig(
        _config(tmp_path / "config", "https://127.0.0.1:1", {"tokenFile": str(tmp_path / "token")})
    )
    assert (await access.current()).authorization == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert (await access.current()).authorization == "Bearer one"
    access._read_at -= 60.0
    assert (await access.current()).authorization == "Bearer two"


def _plugin(folder: Path, status: dict[str, str]) -> dict[str, Any]:
    """A plugin that writes a line each time it is asked."""
    program, said = folder / "plugin.py", folder / "said.json"
    said.write_text(
        json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "E", "status": status})
    )
    lines = (
        f"open({str(folder / 'calls')!r}, 'a').write('x')",
        f"print(open({str(said)!r}).read())",
    )
    program.write_text("\n".join(lines))
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(program)],
        }
    }


async def test_an_exec_plugin_is_asked_again_when_its_token_ends(tmp_path: Path) -> None:
    user = _plugin(tmp_path, {"token": "from-plugin", "expirationTimestamp": "2999-01-01T00:00:00Z"})
    access = Access.kubeconfig(_config(tmp_path / "config", "https://127.0.0.1:1", user))
    for _ in range(3):
        assert (await access.current()).authorization == "Bearer from-plugin"
        access._read_at -= 60.0
    assert (tmp_path / "calls").read_text() == "x"
    user = _plugin(tmp_path, {"token": "short", "expirationTimestamp": "2000-01-01T00:00:00Z"})
    access = Access.kubeconfig(_config(tmp_path / "config", "https://127.0.0.1:1", user))
    for _ in range(2):
        await access.current()
        access._read_at -= 60.0
    assert (tmp_path / "calls").read_text() == "xxx"


async def test_a_plugin_that_fails_is_not_nobody(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false"}}
    access = Access.kubeconfig(_config(tmp_path / "config", "https://127.0.0.1:1", user))
    with pytest.raises(AccessError, match="gave no credentials"):
        await access.current()


async def test_what_is_wrong_with_a_kubeconfig_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AccessError, match="no such kubeconfig"):
        Access.kubeconfig(tmp_path / "absent")
    for content in ("", "[", "a: b", "contexts: 1", "clusters: []\ncontexts: []\nusers: []"):
        (tmp_path / "config").write_text(content)
        with pytest.raises(AccessError, match="config"):
            Access.kubeconfig(tmp_path / "config")
    good = _config(tmp_path / "good", "https://127.0.0.1:1", {"token": "t"})
    with pytest.raises(AccessError, match="third"):
        Access.kubeconfig(good, "third")
    monkeypatch.setenv("KUBECONFIG", str(good))
    assert await Access.kubeconfig().current() == Credentials("https://127.0.0.1:1", "Bearer t")
