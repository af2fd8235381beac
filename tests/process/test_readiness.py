"""A pod is ready when its application is."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from .mesh import Mesh
from .pods import pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

PORT = 7700
LATE = f"""
import os, signal, socket, time
time.sleep(2)
listening = socket.create_server((os.environ["POD_IP"], {PORT}))
signal.pause()
"""


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books, and a pod whose application listens two seconds after its proxy does."""
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "late",
        "image": "policyd-test:0.1",
        "command": [sys.executable, "-c", LATE],
        "env": [address],
        "ports": [{"name": "tcp", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": "tcp"}, "periodSeconds": 1},
    }
    (manifests / "late.yaml").write_text(pod("late", "books", container))
    return manifests


async def test_t6_a_proxy_that_accepts_for_nobody_makes_no_pod_ready(mesh: Mesh) -> None:
    late = mesh.pod("late-0")
    assert late.ready
    _, writer = await asyncio.open_connection(late.addresses.application, PORT)
    writer.close()
