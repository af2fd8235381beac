from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from identity.audit import REFUSALS_PER_SECOND, Journal, JournalError


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def assert_chained(path: Path) -> None:
    previous = "0" * 64
    for line in path.read_bytes().splitlines():
        assert json.loads(line)["previous"] == previous
        previous = hashlib.sha256(line).hexdigest()


async def test_lines_are_durable_chained_and_private(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    await asyncio.gather(*(journal.append({"event": "issued", "at": n}) for n in range(50)))
    assert [line["at"] for line in lines(path)] == list(range(50))
    assert path.stat().st_mode & 0o777 == 0o600
    assert journal.last_issued_millis == 49
    await journal.close()
    again = Journal(path)
    assert again.last_issued_millis == 49
    await again.append({"event": "issued", "at": 50})
    await again.close()
    assert_chained(path)


async def test_one_commit_serves_all_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, fsync = Journal(tmp_path / "journal"), os.fsync
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: (syncs.append(file), fsync(file)))
    await asyncio.gather(*(journal.append({"event": "issued", "at": n}) for n in range(100)))
    assert len(syncs) == 1
    await journal.close()


async def test_id_09_a_torn_line_is_ended_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    await journal.append({"event": "issued", "at": 5})
    await journal.close()
    with path.open("ab") as file:
        file.write(b'{"event":"issued","at":99')
    again = Journal(path)
    assert again.last_issued_millis == 5
    await again.append({"event": "issued", "at": 6})
    await again.close()
    whole, torn, after = path.read_bytes().splitlines()
    assert json.loads(whole)["at"] == 5
    assert json.loads(after)["previous"] == hashlib.sha256(torn).hexdigest()


async def test_id_10_a_failed_commit_fails_all_that_wait_on_it_and_is_tried_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)

    def fail(_file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        results = await asyncio.gather(
            *(journal.append({"event": "issued", "at": n}) for n in range(3)), return_exceptions=True
        )
    assert all(isinstance(result, JournalError) and "No space left" in str(result) for result in results)
    await journal.append({"event": "issued", "at": 9})
    await journal.close()
    assert_chained(path)
    assert lines(path)[-1]["at"] == 9


async def test_refusals_beyond_the_allowance_are_counted(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal", [100.0]
    journal = Journal(path, now=lambda: clock[0])
    for _ in range(REFUSALS_PER_SECOND + 7):
        journal.note({"event": "refused"})
    clock[0] += 1
    journal.note({"event": "refused"})
    await journal.close()
    written = lines(path)
    assert sum(line["event"] == "refused" for line in written) == REFUSALS_PER_SECOND + 1
    assert [line["count"] for line in written if line["event"] == "refusals_not_written"] == [7]


@pytest.mark.parametrize("spoil", ["mode", "link", "folder", "busy"])
async def test_a_journal_that_others_hold_or_could_change_is_refused(spoil: str, tmp_path: Path) -> None:
    path, other = tmp_path / "journal", None
    match spoil:
        case "mode":
            path.touch(0o644)
            path.chmod(0o644)
        case "link":
            (tmp_path / "real").touch(0o600)
            path.symlink_to(tmp_path / "real")
        case "folder":
            path.mkdir()
        case _:
            other = Journal(path)
    with pytest.raises(JournalError, match="journal"):
        Journal(path)
    if other is not None:
        await other.close()
