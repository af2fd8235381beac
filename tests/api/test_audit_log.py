"""Which user made a change, from what a real API server logs of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from policyd.audit.record import Writer
from policyd.audit.sqlite import SqliteStore
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.distribute.trail import Trail
from policyd.resources.instants import rfc3339
from tests.api import objects
from tests.api.audit_log import audit_log
from tests.api.audit_policyd import NoSigner, Spool
from tests.api.controlling import Serving, controlling, policy
from tests.api.following import until
from tests.api.rig import ApiServer, RigError

OWN = Writer("spiffe://cluster.local/ns/policyd/sa/policyd", "", "policyd", "policyd", "")
Explain = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def explain(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explain:
    """`policyctl explain … -o json`, of the cluster and with the log."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    async def ask(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        log = ("--api-audit-log", str(audit_log(api)))
        given = words if "--api-audit-log" in words else (*words, *log)
        code = await asyncio.to_thread(run, ["explain", *given, "-o", "json"])
        said = capsys.readouterr()
        assert code in {ExitCode.DONE, ExitCode.NO}, said.err
        told: dict[str, Any] = json.loads(said.out)
        return told

    return ask


def written(namespace: str, account: str) -> str:
    metadata = {"name": "readers", "namespace": namespace, "annotations": {"note": "a"}}
    return json.dumps(policy("readers", account) | {"metadata": metadata})


def as_(api: ApiServer, user: str, *words: str, stdin: str = "") -> None:
    """Let an administrator do something as another user, who may do everything."""
    api.kubectl(*words, "--as", user, "--as-group", "system:masters", stdin=stdin)


async def logged(api: ApiServer, *parts: str) -> None:
    """Wait until a line of the log holds all of these: it is written when the answer may be there already."""

    def holds() -> bool:
        return any(all(part in line for part in parts) for line in audit_log(api).read_text().splitlines())

    await until(holds)


async def next_second() -> None:
    """Wait until it is another second, by the clock that the API server has, too."""
    began = rfc3339(datetime.now(UTC))
    await until(lambda: rfc3339(datetime.now(UTC)) > began)


async def test_the_user_is_named_and_who_impersonated_him(
    api: ApiServer, pod: objects.Pod, explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = pod.namespace
    nobody = api.write_kubeconfig("nobody", objects.account_token(api, space, "default"))
    as_(api, "jane", "create", "-f", "-", stdin=written(space, "reader"))
    await logged(api, space, '"jane"', '"create"')
    question = ("--to", f"pod/{space}/web:80", "--from", f"serviceAccount:{space}/reader")
    history = (await explain(*question))["history"]
    found = history["logged"]
    assert (history["author"], found["matches"]) == ("kubectl-create", 1)
    entry = found["entry"]
    assert (entry["user"], entry["impersonatedBy"], entry["verb"]) == ("jane", "admin", "create")
    assert entry["sourceIPs"] == ["127.0.0.1"]
    assert entry["userAgent"].startswith("kubectl/")
    assert entry["auditID"] in audit_log(api).read_text()

    # Who was refused, only tried, or wrote a status, changed nothing.
    patch = ("patch", "authorizationpolicy.policyd.dev", "readers", "-n", space, "--type=merge", "-p")
    with pytest.raises(RigError, match="forbidden"):
        api.kubectl(*patch, '{"spec": {"mode": "Audit"}}', kubeconfig=nobody)
    as_(api, "mallory", *patch, '{"spec": {"mode": "Audit"}}', "--dry-run=server")
    as_(api, "statuswriter", *patch, '{"status": {}}', "--subresource=status")
    # managedFields can't tell two managers of one second apart, and nothing of who only removes something.
    await next_second()
    as_(api, "erin", "annotate", "authorizationpolicy.policyd.dev", "readers", "-n", space, "note-")
    await logged(api, space, '"erin"')
    history = (await explain(*question))["history"]
    assert (history["author"], history["logged"]["entry"]["user"]) == ("kubectl-create", "jane")
    later = history["logged"]["later"]
    assert (later["count"], later["last"]["user"]) == (1, "erin")
    await next_second()
    as_(api, "bob", "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=written(space, "other"))
    await logged(api, space, '"bob"')
    await logged(api, space, '"statuswriter"')
    other = ("--to", f"pod/{space}/web:80", "--from", f"serviceAccount:{space}/other")
    history = (await explain(*other))["history"]
    assert (history["author"], history["operation"]) == ("kubectl", "Apply")
    assert (history["logged"]["entry"]["user"], history["logged"]["entry"]["verb"]) == ("bob", "patch")

    # The same through a pipe, with a line of the log that is still being written.
    piped = audit_log(api).read_bytes() + b'{"kind":"Event","apiVersi'
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(piped)))
    assert (await explain(*other, "--api-audit-log", "-"))["history"] == history


async def test_of_a_deletion_the_log_says_who(
    api: ApiServer, pod: objects.Pod, explain: Explain, tmp_path: Path
) -> None:
    space, workload = pod.namespace, f"pod/{pod.namespace}/web"
    as_(api, "jane", "create", "-f", "-", stdin=written(space, "reader"))
    store = SqliteStore(tmp_path / "audit", OWN, NoSigner())
    store.start()
    async with controlling(api, tmp_path) as controller:
        trail = Trail(store)
        controller.trail = trail
        try:
            before = Serving(controller, pod, space).table
            await until(lambda: not store.standing.problem and len(store.tables(workload, 9)) == 1)
            as_(api, "carol", "delete", "authorizationpolicy.policyd.dev", "readers", "-n", space)
            await until(lambda: Serving(controller, pod, space).table != before)
            await until(lambda: len(store.tables(workload, 9)) == 2)
            now = Serving(controller, pod, space).hashes
            caller = {"ip": "10.0.0.7", "identity": f"spiffe://cluster.local/ns/{space}/sa/reader"}
            table, facts = (f"sha256:{each.hex()}" for each in (now.snapshot, now.facts))
            spool = Spool(store, space, "web", workload)
            denied = spool.deny(table=table, facts=facts, peer=caller)
        finally:
            trail.close()
    store.close()
    await logged(api, space, '"carol"', '"delete"')
    told = await explain(denied, "--store", str(tmp_path / "audit"))
    (change,) = told["history"]["past"]["deniedBy"]["changes"]
    assert (change["what"], change["object"]) == (
        "removed",
        f"authorizationpolicy.policyd.dev/{space}/readers",
    )
    assert change["places"] == [], "managedFields went with the object"
    assert (change["logged"]["matches"], change["logged"]["entry"]["user"]) == (1, "carol")
    assert change["logged"]["entry"]["impersonatedBy"] == "admin"
