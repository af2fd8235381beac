"""A denial's whole way: proxy, stream, store, and the commands that read it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from .mesh import WAIT_SECONDS, Mesh, http

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBAPP = "books/webapp:80"
PROGRAM = "import sys; from policyd.cli.main import main; main()"


async def policyctl(*words: str, code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *words, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, out.decode()
    return out.decode()


async def grouped(count: int, *filters: str) -> list[dict[str, Any]]:
    """The groups of denials, as soon as there are so many denials in them."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            groups = json.loads(await policyctl("denials", "-o", "json", *filters))["denials"]
            if sum(group["count"] for group in groups) >= count:
                found: list[dict[str, Any]] = groups
                return found


async def test_a_denial_is_in_the_store_and_is_explained_from_it(mesh: Mesh, manifests: Path) -> None:
    decisions = []
    for _ in range(20):
        answer = await http(mesh.listener("traffic-0", WEBAPP), "DELETE", "/books/3")
        assert answer.status == 403
        decisions.append(answer.decision)
    filters = (
        "--workload",
        "deployment/books/webapp",
        "--peer",
        "books/traffic",
        "--reason",
        "no_matching_rule",
    )
    (group,) = [each for each in await grouped(20, *filters) if each["method"] == "DELETE"]
    assert group["count"] == 20
    listed = json.loads(await policyctl("denials", "--list", "-o", "json", *filters))["denials"]
    assert set(decisions) <= {record.get("id") for record in listed}
    store = json.loads(await policyctl("status", "-o", "json"))["audit"]
    assert (store["problem"], store["rolledBack"], store["lost"]) == (None, 0, 0)
    folder = ("--store", store["folder"], "-f", str(manifests))
    told = json.loads(await policyctl("explain", decisions[0], *folder, "-o", "json", code=1))
    assert (told["id"], told["reason"], told["now"]["verdict"]) == (decisions[0], "no_matching_rule", "deny")
    assert told["fix"]
    assert "nobody changed it" in await policyctl("audit", "verify")


async def test_a_change_is_named_to_whom_it_denied(mesh: Mesh, manifests: Path) -> None:
    file = manifests / "webapp.yaml"
    text = file.read_text()
    file.write_text(text.replace("method: {in: [GET, POST]}", "method: {in: [POST]}"))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (answer := await http(mesh.listener("traffic-0", WEBAPP), "GET", "/books")).status != 403:
                pass
        await grouped(1, "--workload", "deployment/books/webapp", "--peer", "books/traffic")
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                told = json.loads(await policyctl("explain", answer.decision, "-o", "json", code=1))
                if told["history"] and told["history"]["past"]["deniedBy"]:
                    break  # the change's record is written after its authors were looked up
        (change,) = told["history"]["past"]["deniedBy"]["changes"]
        assert change["object"].endswith("books/webapp-visitors")
        assert change["places"][0]["place"].startswith(f"{file}:")
    finally:
        file.write_text(text)
