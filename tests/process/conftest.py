"""A real mesh: identity, policyd, proxies and applications as processes on loopback.

Each test module has a mesh of its own. Nothing here sleeps to be in time for something: every wait is for an
event, and bounded.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from policyd.errors import SourceError
from policyd.up.programs import find_proxy
from policyd.up.run import running
from policyd.up.screen import Screen

from .mesh import Mesh

BOOKS = Path(__file__).parents[2] / "policies" / "books"
READY_SECONDS = 60.0


@pytest.fixture(scope="session", autouse=True)
def proxy_is_built() -> None:
    """Say it once where the proxy is missing."""
    try:
        find_proxy()
    except SourceError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module")
def runtime_folder() -> Iterator[Path]:
    """XDG_RUNTIME_DIR of the module, short enough for a socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="pt-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder
    left = sorted(str(path) for path in folder.rglob("*"))
    shutil.rmtree(folder)
    assert not left, f"the run left files behind: {left}"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of books whose visitors make one request and then wait: the tests are the visitors."""
    folder = tmp_path_factory.mktemp("books")
    shutil.copytree(BOOKS, folder, dirs_exist_ok=True)
    traffic = folder / "traffic.yaml"
    traffic.write_text(traffic.read_text().replace('value: "0.5"', 'value: "3600"'))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(manifests: Path, runtime_folder: Path) -> AsyncIterator[Mesh]:
    """The mesh of the module, all pods ready."""
    screen = io.StringIO()
    async with running(manifests, Screen(verbose=True, stream=screen)) as started:
        try:
            await started.all_ready(READY_SECONDS)
            yield Mesh(started)
        except BaseException:
            sys.stdout.write(screen.getvalue())
            raise
