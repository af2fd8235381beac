"""Without policyd, and without anything kept: what a restarted proxy does (promises P-1 and P-2)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal

import pytest

from .mesh import Answer, Mesh, http

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBAPP = "books/webapp:80"


async def _visit(mesh: Mesh, method: str, path: str) -> Answer:
    return await http(mesh.listener("traffic-0", WEBAPP), method, path)


async def _restarted(mesh: Mesh, pod: str) -> None:
    """Kill the proxy as a crash would; its kubelet starts it again."""
    proxy = mesh.pod(pod).proxy
    before = proxy.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(15):
        while proxy.pid in {None, before}:
            await asyncio.sleep(0.01)  # a child's start has no event of its own


@pytest.mark.promise("P-1")
async def test_without_policyd_everything_goes_on(mesh: Mesh) -> None:
    policyd = mesh.up.control_plane.child("policyd")
    await policyd.stop()
    try:
        assert (await _visit(mesh, "GET", "/books")).status == 200
        assert (await _visit(mesh, "DELETE", "/books/1")).status == 403
        await _restarted(mesh, "webapp-0")
        await mesh.until_answering("webapp-0")
        denied = await mesh.direct("webapp-0", "books/traffic", "DELETE", "/books/1")
        assert denied.status == 403
        assert (await mesh.denial(denied.decision))["reason"] == "no_matching_rule"
        assert (await mesh.direct("webapp-0", "books/traffic", "GET", "/status")).status == 404
    finally:
        mesh.forget_records()
        policyd.start()
        await mesh.service_record("policyd_ready")


@pytest.mark.promise("P-2")
async def test_without_policyd_and_without_a_kept_table_everything_is_denied(mesh: Mesh) -> None:
    await mesh.up.all_ready(30)
    policyd = mesh.up.control_plane.child("policyd")
    await policyd.stop()
    webapp = mesh.pod("webapp-0")
    try:
        await webapp.proxy.stop()
        shutil.rmtree(webapp.state)
        webapp.state.mkdir(mode=0o700)
        webapp.proxy.start()
        await mesh.until_answering("webapp-0")
        answer = await mesh.direct("webapp-0", "books/traffic", "GET", "/books")
        assert answer.status == 503
        assert (await mesh.denial(answer.decision))["reason"] == "no_policy_loaded"
        plain = await http(mesh.address("webapp-0", 7000), "GET", "/healthz")
        assert plain.status == 503
    finally:
        mesh.forget_records()
        policyd.start()
        await mesh.service_record("policyd_ready")
    await mesh.up.all_ready(30)
    assert (await _visit(mesh, "GET", "/books")).status == 200
