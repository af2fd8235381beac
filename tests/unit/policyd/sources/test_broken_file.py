"""A file that is no YAML changes nothing: its last good content stays, and the error is told."""

import asyncio
from pathlib import Path

import pytest

from policyd.compile.world import load_world
from policyd.sources.folder import Folder

GOOD = "apiVersion: v1\nkind: Namespace\nmetadata: {name: books}\n"
BROKEN = "apiVersion: v1\nkind: Namespace\nmetadata: {name: books\n"
PATIENCE_S = 30


@pytest.mark.shows("U6")
async def test_last_good_content_stays(tmp_path: Path) -> None:
    file = tmp_path / "world.yaml"
    file.write_text(GOOD)
    folder = Folder(tmp_path)
    try:
        assert [event.key.name for event in folder.start().events] == ["books"]
        batches = folder.batches()
        file.write_text(BROKEN)
        batch = await asyncio.wait_for(anext(batches), PATIENCE_S)
        assert batch.events == ()
        assert [finding.severity for finding in batch.findings] == ["error"]
    finally:
        folder.close()


@pytest.mark.shows("U6")
def test_at_a_cold_start_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "world.yaml").write_text(BROKEN)
    assert len(load_world([tmp_path]).unreadable) == 1
