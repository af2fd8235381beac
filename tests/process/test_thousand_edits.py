"""A thousand edits under load: what stays allowed never fails, and each edit is enforced soon (P-3).

Several editors at once, each with a file of its own; one of them writes the very file that grants what the
load asks for. They add and remove other grants and denials, rename a whole file into place or write into it,
and break it now and then.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from . import quick
from .load import Way, ask, loading
from .mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDITS = int(os.environ.get("POLICYD_EDITS", "1000"))
EDITORS = 5
CONNECTIONS = 2
ASK_PAUSE_SECONDS = 0.01
POLL_SECONDS = 0.005
ENFORCED_SECONDS = 1.0
"""Promise P-3, from before the file is written."""
LATE_SECONDS = 10.0
LONGEST_SECONDS = 30 + EDITS * 0.2

ALLOWED = tuple(each for each in quick.FRIENDS if each.right == 200)

DENY = """\
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: edited-deny-{editor}, namespace: books}}
spec:
  action: Deny
  targetRef: {{group: policyd.dev, kind: Server, name: quick-http}}
  requiredAuthenticationRefs: []
  when:
    - path: {{in: [{path}]}}
"""
ALLOW = """\
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: edited-allow-{editor}, namespace: books}}
spec:
  targetRef: {{group: policyd.dev, kind: Server, name: quick-http}}
  requiredAuthenticationRefs: []
  when:
    - path: {{in: [{path}]}}
"""
UNREADABLE = """\
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: edited-unreadable-{editor}, namespace: books}}
spec:
  targetRef: {{group: policyd.dev, kind: Server, name: quick-http}}
  requiredAuthenticationRefs: []
  until: tomorrow
"""
BROKEN = "\n  : [\n"


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one among them."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST)
    return manifests


@dataclass
class Poll:
    """A client that asks for one path until its answer is another."""

    address: tuple[str, int]
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def status(self, path: str) -> int:
        """The status of a GET; 0 where it was cut, because its grant ended while it was served."""
        try:
            return await self._ask(path)
        except (OSError, EOFError):
            self.close()
            return 0

    async def _ask(self, path: str) -> int:
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(*self.address)
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: quick.test\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


@asynccontextmanager
async def polling(address: tuple[str, int]) -> AsyncIterator[Poll]:
    poll = Poll(address)
    try:
        yield poll
    finally:
        poll.close()


@dataclass
class Editor:
    """Writes one file again and again; what it always holds comes first."""

    number: int
    file: Path
    always: str = ""
    took: list[float] = field(default_factory=list)
    broken: int = 0

    async def edit(self, times: int, poll: Poll) -> None:
        """Edit so often; each that isn't broken is waited for."""
        for turn in range(times):
            if turn % 10 == 7:
                self.broken += 1
                self._write(self.always + BROKEN, in_place=turn % 20 == 7)
                continue
            denies = turn % 2 == 0
            path = f"/{'open' if denies else 'marks'}/{self.number}/{turn}"
            text = (DENY if denies else ALLOW).format(editor=self.number, path=path)
            if turn % 5 == 4:
                text += "---\n" + UNREADABLE.format(editor=self.number)
            assert await poll.status(path) == (200 if denies else 403)
            began = time.monotonic()
            self._write(f"{self.always}---\n{text}", in_place=turn % 3 == 0)
            async with asyncio.timeout(LATE_SECONDS):
                while await poll.status(path) != (403 if denies else 200):
                    await asyncio.sleep(POLL_SECONDS)
            self.took.append(time.monotonic() - began)

    def _write(self, text: str, in_place: bool) -> None:
        if in_place:
            self.file.write_text(text)
            return
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)


@pytest.mark.promise("P-3")
async def test_p_3_a_thousand_edits_fail_no_allowed_request(
    mesh: Mesh, manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = [quick.outbound(mesh, ALLOWED), quick.direct(mesh, asks=ALLOWED)]
    ways.append(Way("chain", mesh.listener("traffic-0", "books/webapp:80"), (ask("GET", "/books", 200),)))
    editors = [Editor(0, manifests / "quick.yaml", quick.MANIFEST)]
    editors += [Editor(number, manifests / f"edited-{number}.yaml") for number in range(1, EDITORS)]
    began = time.monotonic()
    async with (
        asyncio.timeout(LONGEST_SECONDS),
        loading(ways, CONNECTIONS, ASK_PAUSE_SECONDS) as tally,
        asyncio.TaskGroup() as tasks,
    ):
        for editor in editors:
            tasks.create_task(_editing(editor, mesh.address("quick-0", quick.PORT)))
    seconds = time.monotonic() - began
    took = sorted(one for editor in editors for one in editor.took)
    with capsys.disabled():
        print(  # noqa: T201 — how long it took
            f"\n{EDITS} edits in {seconds:.0f} s, {sum(editor.broken for editor in editors)} of them broken;"
            f" saved to enforced: p50 {took[len(took) // 2] * 1000:.0f} ms,"
            f" p99 {took[int(len(took) * 0.99)] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms;"
            f" {tally.total} requests, {len(tally.failed) + len(tally.wrong)} failed"
        )
    assert not tally.wrong
    assert not tally.failed
    assert tally.total > EDITS
    assert took[int(len(took) * 0.99)] < ENFORCED_SECONDS


async def _editing(editor: Editor, address: tuple[str, int]) -> None:
    async with polling(address) as poll:
        await editor.edit(EDITS // EDITORS, poll)
