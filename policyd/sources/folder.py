"""A folder of manifests that is watched."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from policyd.errors import SourceError
from policyd.model.finding import Finding
from policyd.model.origin import Origin
from policyd.resources.checks import ENGINE, Checks
from policyd.sources.events import Batch, Event
from policyd.sources.files import UNREAD, FileContent, Signature, find, load, read_file, signature
from policyd.sources.holdings import Holdings

GATHER_MS = 50
"""Everything from this long becomes one batch (design §8)."""
QUIET_MS = 10
"""A batch ends when nothing has changed for this long."""
LOOK_AGAIN_MS = 10_000
"""How often signatures are compared though nothing was told: a kernel's queue can overflow."""
EMPTIED_S = 0.25
"""How long an emptied file is waited for: editors that write in place empty it first."""
WRITTEN_S = QUIET_MS / 1000
"""How long a file that is written in place is left alone first: half of it would be a file too."""
MOST_WRITTEN_S = 0.1
"""How long that is waited for at most, where somebody writes all the time."""


class Folder:
    """Follows a folder and tells of its objects. `start` once, then iterate over `batches`; `close` ends it.

    A file that is no YAML, or can't be opened, keeps the objects it had (semantics U6). A file that has not
    changed is not opened. The watch begins before the first reading, so that no change falls between them.
    """

    def __init__(self, path: Path, checks: Checks = ENGINE) -> None:
        """Begin to watch. Raises SourceError where there is no such folder or it can't be watched."""
        if not path.is_dir():
            raise SourceError(f"{path}: no such folder")
        self._path = path
        self._checks = checks
        self._holdings = Holdings()
        self._seen: dict[str, FileContent] = {}
        self._waiting: dict[str, float] = {}
        """Files that are being written, and since when (monotonic) they are waited for."""
        self._unreachable: tuple[Finding, ...] = ()
        self._revision = 0
        self._stop = threading.Event()
        try:
            self._notify = RustNotify([str(path)], False, False, 300, True, False)
        except (OSError, WatchfilesRustInternalError) as error:
            raise SourceError(f"{path}: can't be watched: {error}") from error

    counts_itself = False
    behind: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self._path)

    async def begin(self) -> Batch:
        """Return all that is there now. Raises SourceError where a file is no YAML (semantics U6)."""
        unreadable = load([self._path]).unreadable
        if unreadable:
            raise SourceError("\n".join(problem.text for problem in unreadable))
        return self.start()

    def hasten(self, kind: str, version: int) -> None:
        """Do nothing: what a folder holds is known at once."""

    def start(self) -> Batch:
        """All that is there now, as additions."""
        self._look(frozenset())
        return self._batch()

    async def batches(self) -> AsyncIterator[Batch]:
        """Each change, when it comes; ends after `close`."""
        told = self._findings()
        while not self._stop.is_set():
            changed = await asyncio.to_thread(self._wait)
            if self._stop.is_set():
                return
            while True:
                wait = await asyncio.to_thread(self._look, changed)
                findings = self._findings()
                events = self._holdings.drain()
                if events or findings != told:
                    told = findings
                    yield self._batch(events)
                if not wait:
                    break
                changed = frozenset()
                await asyncio.sleep(wait)

    def close(self) -> None:
        """End the watch; whoever iterates comes to the end of it."""
        self._stop.set()

    def _wait(self) -> frozenset[str]:
        """Wait for changes, in a thread; the files that changed, as far as the kernel told."""
        changes = self._notify.watch(GATHER_MS, QUIET_MS, LOOK_AGAIN_MS, self._stop)
        return frozenset(path for _, path in changes) if isinstance(changes, set) else frozenset()

    def _files(self) -> dict[str, Signature]:
        """Return the files that are there now. Raises SourceError."""
        found: dict[str, Signature] = {}
        for path in find(self._path):
            try:
                found[str(path)] = signature(path)
            except OSError:
                found[str(path)] = UNREAD
        return found

    def _being_written(self, file: str, now: Signature) -> float:
        """Seconds until a file should be looked at again, 0 to read it now.

        One that is written in place is empty first, and then for a moment the beginning of itself: what it
        holds then is nobody's policy. That it is another file than before says nothing: one that was renamed
        into place can be written to before anybody has looked.
        """
        before = self._seen.get(file)
        emptied = now[1] == 0 and before is not None and before.signature[1] > 0
        age = (time.time_ns() - now[2]) / 1e9
        left = (EMPTIED_S if emptied else WRITTEN_S) - age
        since = self._waiting.setdefault(file, time.monotonic())
        if age < 0 or left <= 0 or (not emptied and time.monotonic() - since >= MOST_WRITTEN_S):
            return 0.0
        return left

    def _look(self, told: frozenset[str]) -> float:
        """Read what has changed, and take it over; the seconds until something should be looked at again."""
        try:
            now = self._files()
        except SourceError as error:
            self._unreachable = (
                Finding("error", "unreadable-file", str(error), origin=Origin(str(self._path))),
            )
            return 0.0
        self._unreachable = ()
        wait = 0.0
        resolved = {str(Path(path)) for path in told}
        for file in self._seen.keys() - now.keys():
            if os.path.lexists(file):  # renamed over while the folder was listed, and passed over for that
                wait = WRITTEN_S
                continue
            del self._seen[file]
            self._waiting.pop(file, None)
            self._holdings.replace(file, ())
        for file, seen in now.items():
            before = self._seen.get(file)
            if before is None or before.signature != seen or file in resolved or file in self._waiting:
                wait = max(wait, self._read(file, seen, before))
        return wait

    def _read(self, file: str, seen: Signature, before: FileContent | None) -> float:
        """Read a file and take it over, but one that is being written; the seconds until it may be read."""
        left = self._being_written(file, seen) if self._revision else 0.0
        if left:
            return left
        content = read_file(Path(file), self._checks)
        if self._revision and content.signature not in {seen, UNREAD}:  # it has been written to meanwhile
            left = self._being_written(file, content.signature)
            if left:
                return left
        self._waiting.pop(file, None)
        self._take(content, before)
        return 0.0

    def _take(self, content: FileContent, before: FileContent | None) -> None:
        self._seen[content.path] = content
        unchanged = before is not None and before.sha256 == content.sha256 and not before.problems
        if not content.problems and not unchanged:
            self._holdings.replace(content.path, content.objects)

    def _findings(self) -> tuple[Finding, ...]:
        """Tell what is wrong with the folder and its files now."""
        files = (self._seen[file] for file in sorted(self._seen))
        in_files = (finding for content in files for finding in (*content.problems, *content.findings))
        return (*self._unreachable, *in_files, *self._holdings.duplicates())

    def _batch(self, events: tuple[Event, ...] | None = None) -> Batch:
        self._revision += 1
        drained = self._holdings.drain() if events is None else events
        return Batch(self._revision, drained, self._findings())
