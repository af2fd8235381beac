"""A folder that is watched."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from policyd.errors import SourceError
from policyd.sources import files
from policyd.sources import folder as followed
from policyd.sources.events import Added, Batch, Deleted, Event, Updated
from policyd.sources.files import FileContent
from policyd.sources.folder import Folder

ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s}\n"
LABELLED = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, labels: {a: b}}\n"


@contextmanager
def following(path: Path) -> Iterator[tuple[Folder, Batch, AsyncIterator[Batch]]]:
    folder = Folder(path)
    try:
        yield folder, folder.start(), folder.batches()
    finally:
        folder.close()


async def next_batch(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(10):
        return await anext(batches)


def told(batch: Batch) -> list[tuple[type[Event], str]]:
    return [(type(event), event.key.name) for event in batch.events]


async def test_added_updated_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ACCOUNT % "a" + "---\n" + ACCOUNT % "b")
    with following(tmp_path) as (_, first, batches):
        assert told(first) == [(Added, "a"), (Added, "b")]
        assert first.revision == 1
        (tmp_path / "a.yaml").write_text(ACCOUNT % "a" + "---\n" + LABELLED % "b" + "---\n" + ACCOUNT % "c")
        second = await next_batch(batches)
        assert told(second) == [(Updated, "b"), (Added, "c")]
        assert second.revision == 2
        (tmp_path / "a.yaml").unlink()
        assert told(await next_batch(batches)) == [(Deleted, "a"), (Deleted, "b"), (Deleted, "c")]


async def test_new_files_and_folders(tmp_path: Path) -> None:
    with following(tmp_path) as (_, first, batches):
        assert first.events == ()
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "a.yaml").write_text(ACCOUNT % "a")
        assert told(await next_batch(batches)) == [(Added, "a")]
        (tmp_path / "deep").rename(tmp_path / "deeper")
        moved = await next_batch(batches)
        assert told(moved) == [(Updated, "a")]
        (event,) = moved.events
        assert isinstance(event, Updated)
        assert event.object.origin.file == str(tmp_path / "deeper" / "a.yaml")


@pytest.mark.shows("U6")
async def test_a_file_that_is_no_yaml_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ACCOUNT % "a")
    with following(tmp_path) as (_, _, batches):
        path.write_text(ACCOUNT % "a" + "x: [\n")
        broken = await next_batch(batches)
        assert broken.events == ()
        assert [(finding.code, finding.origin.file) for finding in broken.findings] == [
            ("invalid-yaml", str(path))
        ]
        path.write_text(ACCOUNT % "b")
        mended = await next_batch(batches)
        assert told(mended) == [(Deleted, "a"), (Added, "b")]
        assert mended.findings == ()


@pytest.mark.shows("U6")
async def test_mended_without_a_change_is_told_too(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ACCOUNT % "a")
    with following(tmp_path) as (_, _, batches):
        path.write_text("x: [\n")
        assert (await next_batch(batches)).findings
        path.write_text(ACCOUNT % "a")
        mended = await next_batch(batches)
        assert (mended.events, mended.findings) == ((), ())


async def test_a_cold_start_on_a_broken_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: [\n")
    with following(tmp_path) as (_, first, _):
        assert first.events == ()
        assert [finding.code for finding in first.findings] == ["invalid-yaml"]


async def test_an_unchanged_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = files.read_file

    def counting(path: Path, *rest: Any) -> FileContent:
        opened.append(path.name)
        return original(path, *rest)

    monkeypatch.setattr(followed, "read_file", counting)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(ACCOUNT % name)
    with following(tmp_path) as (_, _, batches):
        assert sorted(opened) == ["a.yaml", "b.yaml", "c.yaml"]
        opened.clear()
        (tmp_path / "b.yaml").write_text(LABELLED % "b")
        assert told(await next_batch(batches)) == [(Updated, "b")]
        assert set(opened) == {"b.yaml"}


async def test_a_rename_over_the_file_is_one_batch(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ACCOUNT % "a")
    with following(tmp_path) as (_, _, batches):
        (tmp_path / ".a.swp").write_text(LABELLED % "a")
        (tmp_path / ".a.swp").rename(tmp_path / "a.yaml")
        assert told(await next_batch(batches)) == [(Updated, "a")]


async def test_duplicates_give_way_to_the_first_by_path(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(LABELLED % "x")
    with following(tmp_path) as (_, _, batches):
        (tmp_path / "a.yaml").write_text(ACCOUNT % "x")
        second = await next_batch(batches)
        assert told(second) == [(Updated, "x")]
        assert [(finding.code, finding.origin.file) for finding in second.findings] == [
            ("duplicate-object", str(tmp_path / "b.yaml"))
        ]
        (tmp_path / "a.yaml").unlink()
        third = await next_batch(batches)
        assert (told(third), third.findings) == ([(Updated, "x")], ())


async def test_a_folder_that_goes_takes_nothing_with_it(tmp_path: Path) -> None:
    path = tmp_path / "manifests"
    path.mkdir()
    (path / "a.yaml").write_text(ACCOUNT % "a")
    with following(path) as (folder, _, batches):
        shutil.move(path, tmp_path / "elsewhere")
        gone = await next_batch(batches)
        assert gone.events == ()
        assert [finding.code for finding in gone.findings] == ["unreadable-file"]
        folder.close()


async def test_closing_ends_the_iteration(tmp_path: Path) -> None:
    with following(tmp_path) as (folder, _, batches):
        waiting = asyncio.ensure_future(anext(batches, None))
        await asyncio.sleep(0)
        folder.close()
        async with asyncio.timeout(10):
            assert await waiting is None


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        Folder(tmp_path / "nothing")


async def test_a_file_that_is_written_in_place_is_never_read_half(tmp_path: Path) -> None:
    """It is empty, then the beginning of itself, while another file's changes call for attention."""
    file, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_text(ACCOUNT % "a" + "---\n" + ACCOUNT % "b")
    with following(tmp_path) as (_, first, batches):
        assert told(first) == [(Added, "a"), (Added, "b")]
        for turn in range(40):
            with file.open("w") as writing:
                other.write_text(ACCOUNT % f"other-{turn}")
                writing.write(ACCOUNT % "a" + "---\n")
                writing.flush()
                other.write_text(LABELLED % f"other-{turn}")
                writing.write((LABELLED if turn % 2 else ACCOUNT) % "b")
            await asyncio.sleep(turn % 8 / 400)  # to meet the watch in every state
            names: set[str] = set()
            while f"other-{turn}" not in names:
                batch = await next_batch(batches)
                names |= {event.key.name for event in batch.events}
                gone = {event.key.name for event in batch.events if isinstance(event, Deleted)}
                assert not gone & {"a", "b"}


async def test_an_emptied_file_is_waited_for_and_then_empty(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ACCOUNT % "a")
    with following(tmp_path) as (_, _, batches):
        file.write_text("")
        began = asyncio.get_running_loop().time()
        assert told(await next_batch(batches)) == [(Deleted, "a")]
        assert asyncio.get_running_loop().time() - began >= followed.EMPTIED_S / 2


async def test_a_file_that_is_replaced_and_then_emptied_is_waited_for(tmp_path: Path) -> None:
    """An editor renames a file into place, and another begins to write into it before anybody has looked."""
    file, new = tmp_path / "a.yaml", tmp_path / "a.new"
    file.write_text(ACCOUNT % "a")
    with following(tmp_path) as (_, _, batches):
        for turn in range(5):
            following_on = asyncio.create_task(next_batch(batches))
            new.write_text(ACCOUNT % "a")
            new.replace(file)
            with file.open("w") as writing:
                await asyncio.sleep(0.04)  # longer than the watch waits for quiet
                writing.write((LABELLED if turn % 2 else ACCOUNT) % "a" + "---\n" + ACCOUNT % f"b-{turn}")
            seen = told(await following_on)
            while (Added, f"b-{turn}") not in seen:
                seen += told(await next_batch(batches))
            assert (Deleted, "a") not in seen
