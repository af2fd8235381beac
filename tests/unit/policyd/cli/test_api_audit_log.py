"""`policyctl explain --api-audit-log`: what is read, what is shown, and what is refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from policyd.cli.api_audit_log import with_logs
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.errors import SourceError
from policyd.explain.past import ObjectChange
from policyd.explain.render import render
from policyd.explain.report import Report
from tests.unit.policyd.cli.test_commands import WORLD
from tests.unit.policyd.cli.test_harmless_output import HOSTILE
from tests.unit.policyd.explain.test_logged import CHANGED, NAME, past, report, write
from tests.unit.policyd.sources.kubernetes.test_api_audit import lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(lines(write(0.1, "jane"), write(-1.5, "bob", verb="delete")))
    return path


def page(answer: Report) -> list[str]:
    printed = io.StringIO()
    render(answer, Console(file=printed, width=4096))
    return printed.getvalue().splitlines()


def line(shown: list[str], label: str) -> str:
    return next(each for each in shown if each.strip().startswith(label))


def test_the_page_has_it_beside_each_change(log: Path) -> None:
    shown = page(with_logs(report(CHANGED, past(ObjectChange("removed", NAME))), (log,)))
    told = line(shown, "logged  ")
    assert "patch by jane at 2026-11-21T12:00:00.100Z, auditID jane-0.1, from 10.0.0.7, agent" in told
    assert shown.index(told) == shown.index(line(shown, "changed")) + 1
    assert shown.index(line(shown, "logged: ")) == shown.index(line(shown, "removed")) + 1
    assert "2 entries of the API server's log match, by bob, jane" in line(shown, "logged: ")


def test_without_a_log_the_page_says_nothing_of_it() -> None:
    asked = report(CHANGED, past(ObjectChange("removed", NAME)))
    assert with_logs(asked, ()) is asked
    assert not any("logged" in each for each in page(asked))


def test_that_nothing_matches_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    shown = page(with_logs(report(CHANGED), (tmp_path / "empty.log",)))
    assert line(shown, "logged") == "logged      no entry of the API server's log matches"


def test_au_05_what_clients_call_themselves_moves_no_terminal(tmp_path: Path) -> None:
    hostile = write(0.1, HOSTILE, userAgent=HOSTILE, sourceIPs=[HOSTILE, "10.0.0.7"], auditID=HOSTILE)
    (tmp_path / "audit.log").write_bytes(lines(hostile, write(0.2, "[red]bob\n")))
    (tmp_path / "one.log").write_bytes(lines(hostile))
    for name in ("audit.log", "one.log"):
        shown = page(with_logs(report(CHANGED), (tmp_path / name,)))
        assert all(each.isprintable() for each in shown)
        assert "a\\x9b31m\\u202eb".replace("\\u", "\\x") in line(shown, "logged")


def test_rotated_files_and_standard_input(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(log.read_bytes())))
    (log.parent / "older.log").write_bytes(lines(write(0.05, "jane")))
    history = with_logs(report(CHANGED), (log.parent / "older.log", Path("-"))).history
    assert history is not None
    assert history.logged is not None
    assert history.logged.matches == 2


def test_a_line_that_is_no_event_is_named(log: Path) -> None:
    log.write_bytes(log.read_bytes() + b"nonsense\n")
    with pytest.raises(SourceError, match=rf"^{log}:3: expected an Event"):
        with_logs(report(CHANGED), (log,))


def test_a_log_that_nothing_asks_for_is_not_read(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(b"nonsense\n")
    asked = report()
    assert with_logs(asked, (log,)) is asked
    assert "not read" in capsys.readouterr().err


def test_files_have_no_such_log(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "world.yaml").write_text(WORLD)
    asked = ["explain", "-f", str(tmp_path / "world.yaml"), "--to", "deployment/books/authors:http"]
    asked += ["--from", "anonymous"]
    assert run([*asked, "--api-audit-log", str(log)]) == ExitCode.USAGE
    assert "--kubeconfig" in capsys.readouterr().err
    assert run([*asked, "--api-audit-log", str(tmp_path / "absent")]) == ExitCode.USAGE
    assert run([*asked, "--api-audit-log", str(tmp_path)]) == ExitCode.USAGE
    assert run([*asked, "--api-audit-log", "-", "--api-audit-log", "-"]) == ExitCode.USAGE
    assert "once" in capsys.readouterr().err
