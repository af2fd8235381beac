"""`policyctl up` and `policyctl demo` as commands: how they begin, how they end, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .conftest import BOOKS

PROGRAM = "import sys; from policyd.cli.main import main; sys.exit(main())"
WAIT_SECONDS = 60.0


@pytest.fixture
def runtime() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pt-"))
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def policyctl(runtime: Path, *words: str, **extra: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "XDG_RUNTIME_DIR": str(runtime),
        "TMPDIR": str(runtime),
        "PYTHONUNBUFFERED": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *words,
        env=environment | extra,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: asyncio.subprocess.Process, pattern: str) -> str:
    """The next line that matches."""
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_SECONDS):
        while line := (await process.stdout.readline()).decode():
            if re.search(pattern, line):
                return line
    raise AssertionError(f"it ended without a line like {pattern!r}")


async def _end(process: asyncio.subprocess.Process) -> tuple[int, str]:
    out, _ = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    assert process.returncode is not None
    return process.returncode, out.decode()


def _left(runtime: Path) -> list[str]:
    """What is there still of a run: files, and processes that were given any of them."""
    files = [str(path) for path in runtime.rglob("*")]
    commands = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(runtime) in command:
            commands.append(command)
    return files + commands


async def test_up_ends_with_ctrl_c_and_leaves_nothing(runtime: Path) -> None:
    async with policyctl(runtime, "up", str(BOOKS)) as process:
        await _line(process, "5 pods are ready")
        async with policyctl(runtime, "status") as status:
            code, text = await _end(status)
            assert (code, text.count("enforcing")) == (0, 5), text
        async with policyctl(runtime, "up", str(BOOKS)) as second:
            code, text = await _end(second)
            assert (code, text.count("\n")) == (2, 1), text
            assert "running already" in text
        process.send_signal(signal.SIGINT)
        assert (await _end(process))[0] == 0
    assert _left(runtime) == []


async def test_up_ends_while_it_begins(runtime: Path) -> None:
    async with policyctl(runtime, "up", str(BOOKS)) as process:
        await _line(process, "trust domain")
        process.send_signal(signal.SIGTERM)
        assert (await _end(process))[0] == 0
    assert _left(runtime) == []


async def test_what_a_killed_run_left_goes_with_the_next(runtime: Path) -> None:
    """Its processes die with it; its folder, keys and all, is cleared."""
    async with policyctl(runtime, "up", str(BOOKS)) as process:
        await _line(process, "5 pods are ready")
        process.kill()
        await process.wait()
    left = set(runtime.glob("policyd/run-*"))
    assert left
    async with asyncio.timeout(10):
        while any("policyd-proxy" in each or "-c import sys" in each for each in _left(runtime)):
            await asyncio.sleep(0.01)  # the kernel ends them; nobody tells
    async with policyctl(runtime, "up", str(BOOKS)) as process:
        await _line(process, "5 pods are ready")
        assert not left & set(runtime.glob("policyd/run-*"))
        process.send_signal(signal.SIGINT)
        assert (await _end(process))[0] == 0
    assert _left(runtime) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", r"w\.yaml:\d+:\d+: error\[invalid-yaml\]"),
        (None, "no such folder"),
    ],
)
async def test_what_can_not_be_begun_is_said_in_a_line(
    runtime: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    folder = tmp_path / "manifests"
    if text is not None:
        folder.mkdir()
        (folder / "w.yaml").write_text(text)
    async with policyctl(runtime, "up", str(folder)) as process:
        code, out = await _end(process)
    assert (code, out.count("\n")) == (2, 1), out
    assert re.search(said, out)
    assert _left(runtime) == []


async def test_a_folder_that_holds_nothing_to_run_is_said_in_a_line(runtime: Path) -> None:
    async with policyctl(runtime, "up", str(BOOKS.parent / "metrics-scrape")) as process:
        code, out = await _end(process)
    assert code == 2, out
    assert out.count("skipped") == 3
    assert "no workload of it can be run here" in out
    assert _left(runtime) == []


async def test_a_missing_proxy_is_said_in_a_line(runtime: Path) -> None:
    async with policyctl(runtime, "up", str(BOOKS), POLICYD_PROXY="/no/such/proxy") as process:
        code, out = await _end(process)
    assert (code, out.count("\n")) == (2, 1), out
    assert "cargo build" in out


async def test_containers_without_a_local_command_are_listed(runtime: Path, tmp_path: Path) -> None:
    shutil.copytree(BOOKS, tmp_path / "m")
    (tmp_path / "m" / "more.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: redis, namespace: books}\n"
        "spec: {template: {spec: {containers: [{name: redis, image: redis:8}]}}}\n"
    )
    async with policyctl(runtime, "up", str(tmp_path / "m")) as process:
        line = await _line(process, "skipped")
        assert "redis" in line
        assert "no command" in line
        await _line(process, "5 pods are ready")
        process.send_signal(signal.SIGINT)
        assert (await _end(process))[0] == 0


async def test_the_demo_shows_it_all_and_leaves_nothing(runtime: Path) -> None:
    async with policyctl(runtime, "demo") as process:
        code, out = await _end(process)
    assert code == 0, out
    for shown in (
        r"emojivoto/vote-bot +→ web +GET /api/list +200",
        r"emojivoto/web +→ emoji +FindByShortcode +gRPC 0",
        r"emojivoto/web +→ voting +VotePoop +gRPC 5 +denied: no_route",
        r"emojivoto/vote-bot +→ voting +VoteGhost +gRPC 7 +denied: no_matching_rule",
        r"emojivoto/vote-bot +→ voting +GET /metrics +403 +denied: no_matching_rule",
        r"GET /api/vote\?choice=:poop: +502 +passed on from voting-0",
        r"DENIED +no_matching_rule +HTTP 200 +gRPC 7",
        r"nearest grants\n +authorizationpolicy/emojivoto/vote-voters +\S*policy\.yaml:\d+:\d+",
        r"\+ +- \{kind: ServiceAccount, name: vote-bot\}",
        r"what else it allows\n +emojivoto/vote-bot .*VoteDoughnut",
        r"the bot's vote is allowed \d+ ms after the file was saved",
        r"the site's votes are refused \d+ ms after the file was saved",
    ):
        assert re.search(shown, out), f"{shown} not in\n{out}"
    assert _left(runtime) == []
