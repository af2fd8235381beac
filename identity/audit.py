"""The issuance journal: JSON lines, append-only, each chained to the one before by its SHA-256.

No durable line, no certificate (security A.8 ID-10). Lines of one instant share one fsync (group commit).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

COMMIT_SECONDS = 0.003
"""How long a line waits for others before the fsync that makes it durable."""
REFUSALS_PER_SECOND = 100
"""Refusals written a second; more are counted and said, so that a flood doesn't fill the disk."""
_TAIL_BYTES = 64 * 1024
_ORIGIN = "0" * 64

Line = Mapping[str, object]


class JournalError(Exception):
    """The journal can't be written; the message names it and the cause."""


class Journal:
    """One file, one writer. `last_issued_millis`: the latest `at` of an issuance, of former runs too."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Open or create (0600) and find the chain's end; raises JournalError."""
        self._path = path
        self._now = now
        self._file = -1
        self._previous = _ORIGIN
        self._waiting: list[tuple[Line, asyncio.Future[None] | None]] = []
        self._writer: asyncio.Task[None] | None = None
        self._refusals = _Allowance(REFUSALS_PER_SECOND)
        self.last_issued_millis = 0
        self.commit_seconds = 0.0
        self._open()

    async def append(self, line: Line) -> None:
        """Return once the line is durable; raises JournalError, and then nothing must be issued on it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(line, done)
        await done

    def note(self, line: Line) -> None:
        """Write soon, without waiting: refusals, which stand whether or not they are written."""
        dropped = self._refusals.take(self._now())
        if dropped is None:
            return
        if dropped:
            self._enqueue({"event": "refusals_not_written", "count": dropped}, None)
        self._enqueue(line, None)

    async def close(self) -> None:
        """Write what waits and close."""
        while self._writer is not None and not self._writer.done():
            await self._writer
        self._close()

    def _enqueue(self, line: Line, done: asyncio.Future[None] | None) -> None:
        self._waiting.append((line, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(COMMIT_SECONDS)
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, [line for line, _ in batch])
            except OSError as error:
                self._close()
                failure = JournalError(f"journal {self._path}: {error.strerror}")
                _finish(batch, failure)
            except JournalError as error:
                _finish(batch, error)
            else:
                _finish(batch, None)

    def _write(self, lines: list[Line]) -> None:
        """Append and fsync, in a thread. After a failure the file is opened anew: its end isn't known."""
        begin = time.monotonic()
        if self._file < 0:
            self._open()
        previous, issued, encoded = self._previous, self.last_issued_millis, bytearray()
        for line in lines:
            text = msgspec.json.encode({**line, "previous": previous})
            previous = hashlib.sha256(text).hexdigest()
            encoded += text + b"\n"
            issued = max(issued, issued_at(line))
        _write_whole(self._file, bytes(encoded))
        os.fsync(self._file)
        self._previous, self.last_issued_millis = previous, issued
        self.commit_seconds = time.monotonic() - begin

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o600)
            found = os.fstat(self._file)
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
                raise OSError(0, "expected a plain file with mode 0600")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._find_end(found.st_size)
        except BlockingIOError as error:
            self._close()
            raise JournalError(f"journal {self._path}: another process writes it; stop that first") from error
        except OSError as error:
            self._close()
            raise JournalError(f"journal {self._path}: {error.strerror}") from error

    def _find_end(self, size: int) -> None:
        """Take up the chain behind the last line; a line torn by a crash is ended and stays as it is."""
        begin = max(0, size - _TAIL_BYTES)
        tail = os.pread(self._file, size - begin, begin)
        if not tail:
            return
        if not tail.endswith(b"\n"):
            _write_whole(self._file, b"\n")
        lines = tail.split(b"\n") if not tail.endswith(b"\n") else tail[:-1].split(b"\n")
        self._previous = hashlib.sha256(lines[-1]).hexdigest()
        for line in lines[1 if begin else 0 :]:
            with contextlib.suppress(msgspec.DecodeError, ValueError):
                decoded = msgspec.json.decode(line)
                self.last_issued_millis = max(self.last_issued_millis, issued_at(decoded))

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def issued_at(line: object) -> int:
    """Milliseconds of an issuance; 0 for every other line."""
    match line:
        case {"event": "issued", "at": int(at)}:
            return at
        case _:
            return 0


class _Allowance:
    """So many a second; counts what it turned away."""

    def __init__(self, each_second: int) -> None:
        self._each_second = each_second
        self._begin = 0.0
        self._taken = 0
        self._dropped = 0

    def take(self, now: float) -> int | None:
        """None: turned away. Else how many were turned away since the last that wasn't."""
        if now - self._begin >= 1:
            self._begin, self._taken = now, 0
        if self._taken >= self._each_second:
            self._dropped += 1
            return None
        self._taken += 1
        dropped, self._dropped = self._dropped, 0
        return dropped


def _write_whole(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _finish(batch: list[tuple[Line, asyncio.Future[None] | None]], failure: JournalError | None) -> None:
    for _, done in batch:
        if done is None or done.done():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
