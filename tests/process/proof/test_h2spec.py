"""h2spec, strict, against the inbound proxy: prior knowledge in plaintext, and inside mutual TLS.

h2spec has no option for a client certificate, so TLS is ended by a relay of ours that has one: frames pass
unread. What differs on purpose is in `h2spec.yaml`, with the reason; whatever else fails is a fault, and so
is a listed case that passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.process.mesh import Mesh
from tests.process.witness import Way

from .reader import way
from .senders import opened
from .tools import tell, tool

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

EXCEPTIONS = Path(__file__).parent / "h2spec.yaml"
CASES = 140
"""At least so many must have been run."""
SECONDS = 90.0


@asynccontextmanager
async def relay(to: Way) -> AsyncIterator[Way]:
    """A port of loopback whose connections go on inside TLS."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while received := await reader.read(65536):
                writer.write(received)
                await writer.drain()
        writer.close()

    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await opened(to)
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying.add(asyncio.create_task(carry(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield Way(host, port)
    for task in carrying:
        task.cancel()
    await asyncio.gather(*carrying, return_exceptions=True)


def read_report(report: Path) -> dict[str, str]:
    """`passed`, `skipped`, or how it failed, by the id of each case: its section and its place there."""
    results: dict[str, str] = {}
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for place, case in enumerate(suite.iter("testcase"), 1):
            failed = next(
                (case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None
            )
            outcome = "skipped" if case.find("skipped") is not None else "passed"
            if failed is not None:
                outcome = f"{case.get('classname')}: {' '.join((failed.text or '').split())}"
            results[f"{case.get('package')}/{place}"] = outcome
    return results


async def run(program: Path, at: Way, report: Path) -> dict[str, str]:
    """Every case of h2spec for servers."""
    words = ["--strict", "--host", at.host, "--port", str(at.port), "--path", "/steady", "--timeout", "2"]
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        "--junit-report",
        str(report),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    end = said.decode(errors="replace")[-2000:]
    assert report.is_file(), end
    results = read_report(report)
    told = re.search(r"(\d+) tests, (\d+) passed", end)
    assert told is not None, end
    outcomes = list(results.values())
    assert (int(told[1]), int(told[2])) == (len(outcomes), outcomes.count("passed")), end
    return results


@pytest.mark.parametrize("by", ["plaintext", "carried"])
async def test_h2spec_finds_nothing_that_is_not_meant(mesh: Mesh, tmp_path: Path, by: str) -> None:
    program, at = tool("h2spec"), way(mesh, by, http2_application=True)
    if at.context is None:
        results = await run(program, at, tmp_path / "report.xml")
    else:
        async with relay(at) as inside:
            results = await run(program, inside, tmp_path / "report.xml")
    meant: dict[str, str] = yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")) or {}
    passed = {case for case, outcome in results.items() if outcome == "passed"}
    skipped = {case for case, outcome in results.items() if outcome == "skipped"}
    failed = {case: outcome for case, outcome in results.items() if case not in passed | skipped}
    tell(
        f"h2spec by {by}: {len(passed)} passed, {len(skipped)} skipped, {len(failed)} failed, "
        f"{len(meant)} meant to differ"
    )
    assert len(results) >= CASES, sorted(results)
    unexpected = {case: outcome for case, outcome in failed.items() if case not in meant}
    assert not unexpected, "\n".join(f"{case}: {outcome}" for case, outcome in sorted(unexpected.items()))
    assert skipped <= meant.keys(), f"skipped without a reason: {sorted(skipped - meant.keys())}"
    assert not meant.keys() & passed, f"these pass now: {sorted(meant.keys() & passed)}"
