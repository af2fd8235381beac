"""Drives the load: lets it begin when it is warm, and reads its report."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.proxies.process import end
from bench.proxies.programs import Program

_OVERDUE_SECONDS = 60.0

Report = dict[str, Any]


class LoadError(Exception):
    """The load couldn't do its work; the message is its own."""


class Load:
    """A running client that is warm, and waits."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """`process` has just been started."""
        self._process = process
        self._next()

    def work(self) -> Report:
        """Let it work, and return its report; its connections stay open."""
        pipe = self._process.stdin
        if pipe is None:
            raise LoadError("it has no stdin")
        pipe.write("\n")
        pipe.flush()
        return self._next()

    def _next(self) -> Report:
        # A load that is stuck is ended, so that the line it owes comes as the end of its output.
        watch = threading.Timer(_OVERDUE_SECONDS, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline() if self._process.stdout else ""
        finally:
            watch.cancel()
        if not line:
            raise LoadError("it ended without a word, or said nothing for a minute")
        report: Report = json.loads(line)
        if "error" in report:
            raise LoadError(str(report["error"]))
        return report


@contextmanager
def loaded(program: Program, words: Sequence[str], core: int) -> Iterator[Load]:
    """Run the load on a core; its connections are open while the block lasts."""
    command = ["taskset", "--cpu-list", str(core), str(program.path), *words]
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Load(process)
    finally:
        end(process)


@contextmanager
def application(program: Program, address: str, body: int, core: int) -> Iterator[None]:
    """Run the application behind the proxies while the block lasts."""
    words = ["serve", "--listen", address, "--body", str(body)]
    command = ["taskset", "--cpu-list", str(core), str(program.path), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        said = process.stdout.readline() if process.stdout else ""
        if "listening" not in said:
            raise LoadError(f"the application doesn't listen: {said.strip() or 'it said nothing'}")
        yield
    finally:
        end(process)


def write_paths(file: Path, paths: Sequence[str]) -> Path:
    """Write the paths to ask for, and return the file."""
    file.write_text("".join(f"{path}\n" for path in paths))
    return file
