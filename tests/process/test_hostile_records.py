"""What clients send ends no line, reaches no terminal and fakes no record, from proxy to command (AU-05)."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from . import quick
from .mesh import WAIT_SECONDS, Mesh, exchange
from .test_audit_trail import policyctl

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTED = """\
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: quick-noted, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: quick-http}
  requiredAuthenticationRefs: []
  when:
    - header: {name: x-note, in: [right]}
    - query: {name: note, in: [right]}
"""
FAKE = b'{"event":"denial","verdict":"allow","id":"00000000-0000-7000-8000-000000000000"}'
HOSTILE = {
    "a terminal": b"\x1b]0;owned\x07\x1b[2J",
    "a record": FAKE + b'"}\\n' + FAKE,
    "no UTF-8": b"\xff\xfe\xc0\x80",
    "other letters": "\u202eright\u2028\u0085".encode(),
    "a tab": b"a\tb",
    "NUL": b"a\0b",
    "a line": b"a\r\n" + FAKE,
    "a bare line": b"a\n" + FAKE,
    "much": b"y" * 6_000,
    "too much": b"z" * 65_000,
}
MOST_IN_QUERY = 10_000
"""Three times as many bytes where each is escaped; beyond what a proxy reads of a client before it gives up,
the client may not see the answer."""
CUT_AT = 512


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one, which reads a header and a query key."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST + NOTED)
    return manifests


def _stored(mesh: Mesh, decision: str) -> list[bytes]:
    file = mesh.up.run.path / "state" / "policyd" / "audit" / "audit.sqlite"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        return [bytes(row[0]) for row in store.execute("SELECT json FROM records WHERE id = ?", (decision,))]


async def _record(mesh: Mesh, decision: str) -> bytes:
    """The one record of a decision in the store."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := _stored(mesh, decision)):
            await asyncio.sleep(0.02)  # delivery has no event here
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("where", ["header", "query"])
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_au_05_hostile_bytes_are_one_record_everywhere(mesh: Mesh, hostile: bytes, where: str) -> None:
    target, header = b"/marks/1", b""
    if where == "header":
        header = b"X-Note: " + hostile + b"\r\n"
    else:
        encoded = b"".join(b"%%%02X" % byte for byte in hostile[:MOST_IN_QUERY])
        target += b"?note=" + encoded
    sent = b"GET " + target + b" HTTP/1.1\r\nHost: quick.test\r\nConnection: close\r\n" + header + b"\r\n"
    answer = (await exchange(*mesh.address("quick-0", quick.PORT), sent)).lower()
    assert answer.startswith((b"http/1.1 403 ", b"http/1.1 400 ")), answer[:100]
    decision = re.findall(rb"x-policyd-decision: (\S+)", answer)[0].decode()
    record = await _record(mesh, decision)
    assert re.fullmatch(rb"[ -~]+", record), "only printable ASCII"
    kept = json.loads(record)
    assert {**await mesh.denial(decision), "place": None} == {**kept, "place": None}
    assert kept["verdict"] == "deny"
    if answer.startswith(b"http/1.1 403 ") and len(hostile) > CUT_AT:
        (cut,) = (each for each in kept["request"]["cut"] if each["field"] in {"headers/0", "query/0"})
        assert cut["bytes"] == len(hostile)
        assert re.fullmatch("[0-9a-f]{64}", cut["sha256"])


async def test_au_05_commands_show_nothing_that_a_terminal_would_obey(mesh: Mesh) -> None:
    listed = ("denials", "--list")
    for words in (("denials",), listed, (*listed, "-o", "json"), (*listed, "-o", "yaml")):
        shown = await policyctl(*words)
        assert "quick" in shown
        assert [letter for letter in shown if letter != "\n" and not letter.isprintable()] == []
        assert "00000000-0000-7000-8000-000000000000" not in re.findall(
            r'^\s*"id": "(.*)"', shown, re.MULTILINE
        )
    assert "nobody changed it" in await policyctl("audit", "verify")
