"""`explain ID` from a store, over a history in which a policy was changed in between.

A real controller reads a real folder and keeps what it tells; only the proxy is the test's.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policyd.audit.keeping import DatabaseStore
from policyd.audit.record import Writer
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.distribute.basis import Basis
from policyd.distribute.controller import Controller
from policyd.distribute.envelope import Hashes
from policyd.distribute.trail import Trail
from policyd.sources.folder import Folder
from tests.unit.policyd.cli.test_commands import WORLD
from tests.unit.policyd.distribute.conftest import leaf

from .conftest import Chain, Opener, deliver, denial, identifier

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "authors-0",
        "namespace": "books",
        "uid": "uid-1",
        "labels": {"app": "authors"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "authors", "uid": "u", "controller": True}
        ],
    },
    "spec": {
        "serviceAccountName": "authors",
        "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
    },
    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.1.5"}]},
}
WORKLOAD = "deployment/books/authors"
WRITER = Writer("spiffe://test/ns/books/sa/authors", "uid-1", "books", "authors-0", WORKLOAD)
GRANT = "requiredAuthenticationRefs: [{kind: ServiceAccount, name: webapp}]"
NARROW = "requiredAuthenticationRefs: [{kind: ServiceAccount, name: someone}]"


class Told:
    """A controller on a folder, the store, and the one pod that asks."""

    def __init__(self, folder: Path, store: DatabaseStore, state: Path) -> None:
        self.folder = folder
        self.store = store
        self.controller = Controller([Folder(folder)], "test")
        self.trail = Trail(store)
        self.controller.trail = self.trail
        store.in_force = self.trail.in_force
        self.basis = Basis(state / "basis.json", self.controller.sources)
        self.chain = Chain(WRITER)
        self.count = 0

    def now(self) -> Hashes:
        """What the pod is told now."""
        return self.controller.contents(leaf("books/authors"), (), 1).hashes

    async def recorded(self, tables: int) -> None:
        async with asyncio.timeout(15):
            while self.store.standing.problem or len(self.store.tables(WORKLOAD, 100)) < tables:
                await asyncio.sleep(0.01)  # another thread's work

    async def change(self, old: str, new: str, file: str = "world.yaml") -> None:
        """Edit a file, and wait until the pod is told something else, and that is recorded."""
        before, tables = self.now().snapshot, len(self.store.tables(WORKLOAD, 100))
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        await self.told_other_than(before)
        await self.recorded(tables + 1)

    async def told_other_than(self, before: bytes) -> None:
        async with asyncio.timeout(15):
            while self.now().snapshot == before:
                await asyncio.sleep(0.01)  # the folder's watch has no event of its own here

    def denied(self, millis: int | None = None, **fields: Any) -> str:
        """Deliver what the pod's proxy would write of webapp's GET /, decided on what it is told now."""
        hashes, self.count = self.now(), self.count + 1
        millis = int(datetime.now(UTC).timestamp() * 1000) if millis is None else millis
        found = {
            "namespace": "books",
            "pod": "authors-0",
            "workload": WORKLOAD,
            "table": f"sha256:{hashes.snapshot.hex()}",
            "facts": f"sha256:{hashes.facts.hex()}",
            "peer": {"ip": "10.0.0.7", "identity": "spiffe://test/ns/books/sa/webapp"},
            "request": {
                "version": "1.1",
                "method": "GET",
                "host": "a",
                "path": "/",
                "query": [],
                "headers": [],
            },
        }
        deliver(self.store, self.chain, denial(self.count, millis=millis, **found | fields))
        return identifier(self.count, millis)


@pytest.fixture
async def told(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "world.yaml").write_text(WORLD)
    (folder / "pod.json").write_text(json.dumps(POD))
    made = Told(folder, opened(), tmp_path)
    await made.controller.start(made.basis)
    following = asyncio.create_task(made.controller.follow())
    made.now()
    await made.recorded(1)
    yield made
    following.cancel()
    made.controller.close()
    await asyncio.gather(following, return_exceptions=True)
    made.trail.close()


def explained(told: Told, written: str, capsys: pytest.CaptureFixture[str], code: int = 1) -> dict[str, Any]:
    store, folder = str(told.folder.parent / "audit"), str(told.folder)
    capsys.readouterr()  # what the controller logged
    assert run(["explain", written, "--store", store, "-f", folder, "-o", "json"]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def line_of(folder: Path, text: str) -> int:
    return 1 + (folder / "world.yaml").read_text().splitlines().index(text)


async def test_the_change_that_took_it_away_is_named(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    await told.change(GRANT, NARROW)
    await told.change("port: http}", "port: http, proxyProtocol: HTTP/1}")
    found = explained(told, told.denied(), capsys)
    assert (found["verdict"], found["reason"], found["now"]["verdict"]) == (
        "deny",
        "no_matching_rule",
        "deny",
    )
    past = found["history"]["past"]
    assert past["looked"] == 3
    assert [change["object"] for change in past["deniedBy"]["changes"]] == [
        "authorizationpolicy.policyd.dev/books/readers"
    ]
    place = past["deniedBy"]["changes"][0]["places"][0]
    assert place["field"] == "spec.requiredAuthenticationRefs[0].name"
    assert place["place"].startswith(f"{told.folder}/world.yaml:{line_of(told.folder, '  ' + NARROW)}:")
    assert (place["author"], place["commit"]) == (None, None)
    assert place["at"] is not None
    assert past["allowedBy"]["table"] == past["deniedBy"]["before"]


async def test_what_was_mended_since_is_allowed_now(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    await told.change(GRANT, NARROW)
    decision = told.denied()
    await told.change(NARROW, GRANT)
    found = explained(told, decision[:13], capsys)
    assert (found["verdict"], found["now"]["verdict"], found["now"]["unknown"]) == ("deny", "allow", [])
    assert found["history"]["past"]["deniedBy"]["table"] == found["table"]


async def test_a_deleted_policy_is_named(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    before = told.now().snapshot
    (told.folder / "world.yaml").write_text(WORLD[: WORLD.rindex("---")])
    await told.told_other_than(before)
    await told.recorded(2)
    (change,) = explained(told, told.denied(), capsys)["history"]["past"]["deniedBy"]["changes"]
    assert (change["what"], change["object"]) == ("removed", "authorizationpolicy.policyd.dev/books/readers")
    assert change["places"][0]["place"] == f"{told.folder}/world.yaml"


async def test_what_no_kept_table_allowed(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    other: dict[str, Any] = {"peer": {"ip": "10.0.0.7", "identity": "spiffe://test/ns/books/sa/other"}}
    past = explained(told, told.denied(**other), capsys)["history"]["past"]
    assert (past["allowedBy"], past["looked"], past["ended"]) == (None, 1, False)
    store = str(told.folder.parent / "audit")
    assert run(["explain", told.denied(**other), "--store", store, "-f", str(told.folder)]) == 1
    assert "not allowed by any of the 1 tables" in capsys.readouterr().out


async def test_a_grant_that_ended_by_itself(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    end = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 1.0, UTC).isoformat().replace("+00:00", "Z")
    await told.change(GRANT, f"{NARROW}\n  validUntil: {end}")
    async with asyncio.timeout(5):
        while datetime.now(UTC) < datetime.fromisoformat(end):
            await asyncio.sleep(0.01)
    someone: dict[str, Any] = {"peer": {"ip": "10.0.0.7", "identity": "spiffe://test/ns/books/sa/someone"}}
    assert explained(told, told.denied(**someone), capsys)["history"]["past"]["ended"] is True


async def test_a_header_that_nobody_recorded_is_unknown(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    when = f"{GRANT}\n  when: [{{header: {{name: x-env, in: [prod]}}}}]"
    await told.change(GRANT, when)
    await told.change(when, NARROW)
    decision = told.denied()
    await told.change(NARROW, when)
    found = explained(told, decision, capsys)
    assert found["now"]["unknown"] == ["header x-env was not recorded"]
    assert found["history"]["past"]["unknown"] == ["header x-env was not recorded"]
    assert (
        run(["explain", decision, "--store", str(told.folder.parent / "audit"), "-f", str(told.folder)]) == 1
    )
    assert "header x-env was not recorded" in capsys.readouterr().out


async def test_in_git_the_change_has_an_author(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved first, committed later: the author is found when it is asked for."""

    def git(*words: str) -> None:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
        environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(told.folder)}
        subprocess.run(
            ("git", *who, *words), cwd=told.folder, env=environment, check=True, capture_output=True
        )

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "Begin")
    await told.change(GRANT, NARROW)
    git("commit", "-q", "-a", "-m", "Narrow it")
    decision = told.denied()
    (change,) = explained(told, decision, capsys)["history"]["past"]["deniedBy"]["changes"]
    (place,) = change["places"]
    assert (place["author"], len(place["commit"])) == ("Ada", 40)
    run(["explain", decision, "--store", str(told.folder.parent / "audit"), "-f", str(told.folder)])
    page = capsys.readouterr().out
    assert "then this was changed:" in page
    assert "by Ada in" in page


async def test_after_a_restart_the_history_goes_on(
    told: Told, opened: Opener, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What changed while policyd was not there is found by comparing with what was kept."""
    told.controller.close()
    told.trail.close()
    told.store.close()
    path = told.folder / "world.yaml"
    path.write_text(WORLD.replace(GRANT, NARROW))
    again = Told(told.folder, opened(), tmp_path)
    await again.controller.start(again.basis)
    try:
        again.now()
        await again.recorded(2)
        (change,) = explained(again, again.denied(), capsys)["history"]["past"]["deniedBy"]["changes"]
        assert change["object"] == "authorizationpolicy.policyd.dev/books/readers"
        assert change["what"] == "updated"
    finally:
        again.controller.close()
        again.trail.close()


async def test_ids_as_people_paste_them(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    await told.change(GRANT, NARROW)
    decision = told.denied()
    line = told.store.find(decision)[0]["json"].decode()
    for written in (decision, decision.upper(), f"x-policyd-decision: {decision}", line, decision[:20]):
        assert explained(told, written, capsys)["id"] == decision
    told.denied(millis=int(decision.replace("-", "")[:12], 16))  # so that both begin alike
    store, folder = str(told.folder.parent / "audit"), str(told.folder)
    assert run(["explain", decision[:8], "--store", store, "-f", folder]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("no_matching_rule") == 2
    unknown = "0" * 8 + decision[8:]
    assert run(["explain", unknown, "--store", store, "-f", folder]) == ExitCode.NOT_FOUND
    assert run(["explain", "abc", "--store", store, "-f", folder]) == ExitCode.USAGE
    assert run(["explain", decision, "--store", folder, "-f", folder]) == ExitCode.NOT_FOUND


async def test_what_the_gate_refused_is_told_as_it_was_recorded(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    gate: dict[str, Any] = {"reason": "invalid_request:G5", "status": 400, "request": None}
    decision = told.denied(**gate, gate={"rule": "G5", "offset": 4, "field": None})
    found = explained(told, decision, capsys)
    assert "rule G5, at byte 4" in found["why"]
    assert (found["now"], found["history"]) == (None, None)
    outbound = told.denied(direction="outbound", detail="endpoint refused", reason="peer_rejected")
    assert "client's side" in explained(told, outbound, capsys)["why"]


async def test_a_denial_about_a_workload_that_is_gone(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    await told.change(GRANT, NARROW)
    decision = told.denied()
    (told.folder / "world.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: books}\n")
    (told.folder / "pod.json").unlink()
    found = explained(told, decision, capsys)
    assert (found["verdict"], found["now"]["reason"]) == ("deny", "no_policy_loaded")
