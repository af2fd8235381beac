"""A child process: its own group, dead when we are, its output line by line, started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_LINE_BYTES = 64 * 1024
GRACE_SECONDS = 5.0
_CHUNK_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_LIVED_SECONDS = 10.0
_LIBC = ctypes.CDLL(None, use_errno=True)

OnLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: words, environment, folder."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


class Child:
    """One process of ours, restarted with a growing pause until `stop`."""

    def __init__(self, command: Command, on_line: OnLine, on_exit: OnLine) -> None:
        """`on_line` gets each line of stdout and stderr, `on_exit` a line about each unexpected end."""
        self._command = command
        self._on_line = on_line
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Begin, also again after `stop`; never waits."""
        self._stop.clear()
        self._task = asyncio.create_task(self._supervise())

    @property
    def command(self) -> Command:
        """What it runs."""
        return self._command

    def like(self, command: Command) -> Child:
        """Return another process, not started, that is heard by whoever hears this one."""
        return Child(command, self._on_line, self._on_exit)

    @property
    def pid(self) -> int | None:
        """The running process; None between two."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def stop(self) -> None:
        """End it, first politely; returns when the process and its group are gone."""
        self._stop.set()
        if self._process is not None:
            await _end(self._process)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _supervise(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                status = await self._run_once()
            except OSError as error:
                status = f"{self._command.words[0]}: {error.strerror}"
            if self._stop.is_set():
                return
            failures = 0 if time.monotonic() - began > _LIVED_SECONDS else failures
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            failures += 1
            self._on_exit(f"{status}; again in {pause:g} s")
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._command.words,
            env=dict(self._command.environment),
            cwd=self._command.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # one system call, nothing that could wait for a lock
        )
        self._process = process
        try:
            if process.stdout is not None:
                await _lines(process.stdout, self._on_line)
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _lines(reader: asyncio.StreamReader, on_line: OnLine) -> None:
    """Hand on each line; one beyond the limit is cut, its rest left out."""
    rest = b""
    cut = False
    while chunk := await reader.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not cut:
                on_line(line.decode(errors="replace"))
            cut = False
        if len(rest) > MOST_LINE_BYTES:
            if not cut:
                on_line(rest[:MOST_LINE_BYTES].decode(errors="replace"))
            rest, cut = b"", True
    if rest and not cut:
        on_line(rest.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the group to end, then make it; nothing of it is left."""
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), GRACE_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
