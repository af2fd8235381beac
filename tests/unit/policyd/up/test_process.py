"""Child processes: their lines, their end, ours."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from policyd.up import process
from policyd.up.process import Child, Command


class _Watch:
    """What a child said, with an event for each."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.exits: asyncio.Queue[str] = asyncio.Queue()

    def child(self, program: str) -> Child:
        command = Command([sys.executable, "-c", program], {"PATH": os.environ["PATH"]}, Path("/"))
        return Child(command, self.lines.put_nowait, self.exits.put_nowait)

    async def line(self) -> str:
        return await asyncio.wait_for(self.lines.get(), 10)


async def test_it_is_started_again_with_a_pause() -> None:
    watch = _Watch()
    child = watch.child("print('here', flush=True); raise SystemExit(3)")
    child.start()
    assert [await watch.line(), await watch.line()] == ["here", "here"]
    assert await asyncio.wait_for(watch.exits.get(), 10) == "ended with exit code 3; again in 0.2 s"
    await child.stop()
    assert child.pid is None


async def test_stopping_ends_the_whole_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    watch = _Watch()
    child = watch.child(
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(inner.pid, flush=True)\n"
        "inner.wait()\n"
    )
    child.start()
    inner = int(await watch.line())
    await child.stop()
    async with asyncio.timeout(10):
        while _is_alive(inner):
            await asyncio.sleep(0.01)  # its parent is init by now: nobody tells of its end
    assert watch.exits.empty()


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_a_program_that_is_not_there_is_said() -> None:
    watch = _Watch()
    child = Child(
        Command(["/no/such/program"], {}, Path("/")), watch.lines.put_nowait, watch.exits.put_nowait
    )
    child.start()
    assert "No such file" in await asyncio.wait_for(watch.exits.get(), 10)
    await child.stop()


async def test_a_line_without_end_is_cut() -> None:
    watch = _Watch()
    child = watch.child(
        "import sys; sys.stdout.write('x' * 1000000 + '\\nnext\\n'); sys.stdout.flush(); input()"
    )
    child.start()
    first = await watch.line()
    assert len(first) == process.MOST_LINE_BYTES
    assert await watch.line() == "next"
    await child.stop()
