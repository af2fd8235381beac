"""`status` and `explain ID`, against something that answers as a running `up` does."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.explain.answer import explain
from policyd.explain.manifests import Manifests
from policyd.explain.question import Caller, Question, http_request
from policyd.model.names import parse_workload
from policyd.resources.instants import read_instant
from policyd_api.v1 import stream_pb2 as wire

from .test_commands import WORLD

DOMAIN = "up-1234.local"
TIME = "2026-11-21T12:00:00.000Z"
IDENTITY = f"spiffe://{DOMAIN}/ns/books/sa/editor"


@contextmanager
def answering(path: Path, answers: dict[str, dict[str, Any]]) -> Iterator[None]:
    """One line of JSON in, one out, by what is asked, until the block ends."""
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as lines:
                    asked = json.loads(lines.readline())
                    if asked["ask"] == "end":
                        return
                    key = f"{asked['ask']} {asked.get('version', asked.get('id', ''))}".strip()
                    answer = answers.get(key, {"error": f"{key}: not known"})
                    connection.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(str(path))
            end.sendall(b'{"ask": "end"}\n')
        thread.join(5)


def up_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What `up` on the folder would answer after it denied editor's GET /shelf."""
    manifests = Manifests.read([folder], DOMAIN)
    place = manifests.place(parse_workload("deployment/books/authors"))
    assert place is not None
    question = Question(
        8080, read_instant(TIME), Caller("127.1.0.9", IDENTITY), http_request("GET", "/shelf", "authors", [])
    )
    told = explain(manifests, place, question)
    table = manifests.table_of(place)
    assert table is not None
    facts = wire.PodFacts(uid="u-1").SerializeToString(deterministic=True)
    facts_version = f"sha256:{hashlib.sha256(facts).hexdigest()}"
    record = {
        "time": TIME,
        "event": "denial",
        "direction": "inbound",
        "workload": "deployment/books/authors",
        "namespace": "books",
        "pod": "authors-0",
        "port": 8080,
        "id": "id-1",
        "verdict": told.verdict,
        "reason": told.reason,
        "grpcStatus": None,
        "table": table.version,
        "facts": facts_version,
        "peer": {"ip": "127.1.0.9", "identity": IDENTITY},
        "request": {"version": "1.1", "method": "GET", "host": "authors", "path": "/shelf", "headers": []},
        "gate": None,
    }
    proxy = {"pod": "books/authors-0", "workload": "deployment/books/authors", "state": "enforcing"}
    versions = {"wanted": table.version, "enforced": table.version}
    status = {"folder": str(folder), "trustDomain": DOMAIN, "proxies": [proxy | versions], "notConnected": []}
    return {
        "status": {**status, "findings": []},
        "denial id-1": {"denial": record},
        f"table {table.version}": {"content": base64.b64encode(table.snapshot).decode()},
        f"table {facts_version}": {"content": base64.b64encode(facts).decode()},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "world.yaml").write_text(WORLD)
    return manifests


def at(folder: Path) -> Path:
    return folder.parent / "policyd" / "up.sock"


def test_status_is_well_where_every_proxy_enforces_what_it_should(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(at(folder), up_of(folder)):
        assert run(["status"]) == ExitCode.DONE
    page = capsys.readouterr().out
    assert "books/authors-0" in page
    assert "enforcing" in page


def test_status_is_not_well_where_a_proxy_lags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = up_of(folder)
    answers["status"]["proxies"][0]["enforced"] = None
    with answering(at(folder), answers):
        assert run(["status", "-o", "json"]) == ExitCode.NO
    assert json.loads(capsys.readouterr().out)["trustDomain"] == DOMAIN


def test_a_denial_is_replayed_on_the_table_that_denied_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = up_of(folder)
    grant = "[{kind: ServiceAccount, name: webapp}]"
    (folder / "world.yaml").write_text(WORLD.replace(grant, "[{kind: ServiceAccount, name: editor}]"))
    with answering(at(folder), answers):
        assert run(["explain", "id-1", "-o", "json"]) == ExitCode.NO
    answer = json.loads(capsys.readouterr().out)
    assert (answer["id"], answer["verdict"], answer["reason"]) == ("id-1", "deny", "no_matching_rule")
    assert (answer["now"]["verdict"], answer["fix"]) == ("allow", None)
    assert answer["now"]["table"] != answer["table"]
    assert answer["nearMisses"][0]["failed"] == ["identity"]


def test_what_was_recorded_holds_where_a_replay_comes_out_otherwise(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table's age isn't recorded, so its bytes alone can't say `policy_stale`."""
    answers = up_of(folder)
    answers["denial id-1"]["denial"] |= {"reason": "policy_stale", "status": 503}
    with answering(at(folder), answers):
        assert run(["explain", "id-1", "-o", "json"]) == ExitCode.NO
    answer = json.loads(capsys.readouterr().out)
    assert (answer["id"], answer["verdict"], answer["reason"]) == ("id-1", "deny", "policy_stale")
    assert "older than MeshDefaults.maxTableAge allows" in answer["why"]
    assert "comes to deny (no_matching_rule)" in answer["why"]
    assert answer["now"]["reason"] == "no_matching_rule"


def test_the_page_shows_the_fix_while_it_is_still_denied(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(at(folder), up_of(folder)):
        assert run(["explain", "id-1"]) == ExitCode.NO
    page = capsys.readouterr().out
    assert "GET /shelf to deployment/books/authors:8080" in page
    assert "the smallest change that allows it" in page


def test_an_id_that_is_not_known_exits_with_5(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(at(folder), up_of(folder)):
        assert run(["explain", "id-2"]) == ExitCode.NOT_FOUND
    assert "id-2" in capsys.readouterr().err


def test_without_files_the_running_ones_are_asked_about(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(at(folder), up_of(folder)):
        assert (
            run(["explain", "--to", "deploy/authors:8080", "-n", "books", "--from", "sa:webapp"])
            == ExitCode.DONE
        )
        assert run(["compile", "deploy/authors", "-n", "books", "-o", "json"]) == ExitCode.DONE
    assert '"who": "books/webapp"' in capsys.readouterr().out


@pytest.mark.parametrize("trouble", [{"problem": "disk full"}, {"rolledBack": 1}])
def test_status_is_not_well_where_denials_are_not_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], trouble: dict[str, Any]
) -> None:
    answers = up_of(folder)
    answers["status"]["audit"] = {"problem": None, "records": 5, "lost": 2, "rolledBack": 0}
    with answering(at(folder), answers):
        assert run(["status"]) == ExitCode.DONE
    assert "5 records kept, 2 said to be lost" in capsys.readouterr().out
    answers["status"]["audit"] |= trouble
    folder.parent.joinpath("policyd", "up.sock").unlink()
    folder.parent.joinpath("policyd").rmdir()
    with answering(at(folder), answers):
        assert run(["status"]) == ExitCode.NO
    assert ("disk full" in (page := capsys.readouterr().out)) or "audit verify" in page
