"""The mesh, with applications that listen."""

from __future__ import annotations

import asyncio

import pytest_asyncio

from ..mesh import WAIT_SECONDS, Mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(mesh: Mesh) -> Mesh:
    """The mesh of the module. A TCP probe is content with the proxy, so it says nothing about the application."""
    for replica in mesh.up.kubelet.replicas.values():
        for container in replica.containers:
            for port in container.ports:
                await _listens(replica.addresses.application, port.container_port)
    return mesh


async def _listens(host: str, port: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionError:
                await asyncio.sleep(0.01)  # a listener's start has no event of its own
            else:
                writer.close()
                return
