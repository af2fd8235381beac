"""The mesh, with applications that listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.process.mesh import WAIT_SECONDS, Mesh

from .parsers import ALWAYS, ByGo, Parser
from .reader import MANIFEST
from .tools import FIGURES, FOLDER, tell


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader and its caller."""
    folder = tmp_path_factory.mktemp("proof")
    (folder / "reader.yaml").write_text(MANIFEST)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parsers() -> AsyncIterator[dict[str, Parser]]:
    """All parsers there are."""
    program = FOLDER / "bin" / "reader"
    if not program.is_file():
        tell("NOT COMPARED with Go's net/http: make tools didn't build it")
        yield dict(ALWAYS)
        return
    go = ByGo(program)
    yield {**ALWAYS, "net/http": go}
    await go.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(mesh: Mesh) -> Mesh:
    """The mesh of the module. A TCP probe is content with the proxy: it says nothing of the application."""
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for line in FIGURES:
        terminalreporter.write_line(line)
    FIGURES.clear()
