"""`policyctl denials` on a store's folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policyd.audit.sqlite import SqliteStore
from policyd.cli.denial_rows import GROUP_COLUMNS
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run

from .conftest import WAIT_SECONDS, Chain, deliver, denial, identifier

AUDIT = {
    "verdict": "deny",
    "reason": "explicit_deny",
    "authorizations": ["authorizationpolicy.policyd.dev/shop/no"],
}
ALWAYS = "2020-01-01T00:00:00Z"


@pytest.fixture
def folder(tmp_path: Path, store: SqliteStore, chain: Chain) -> Path:
    """A thousand equal denials, one other, one that would be, and two that aren't denials."""
    deliver(store, chain, *(denial(number) for number in range(1000)))
    other = {"peer": {"ip": "10.9.9.9", "identity": None}, "reason": "no_identity"}
    deliver(
        store, chain, denial(1000, **other), denial(1001, event="would_deny", verdict="allow", audit=AUDIT)
    )
    lost = {"event": "lost", "count": 12, "reason": "spool_full", "time": denial(1002)["time"]}
    deliver(store, chain, lost, {"event": "chain", "after": "ab" * 16, "time": denial(1003)["time"]})
    return tmp_path / "audit"


def asked(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(["denials", "--store", str(folder), "--since", ALWAYS, *words]) == ExitCode.DONE
    return capsys.readouterr().out


def test_a_thousand_equal_denials_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = asked(folder, capsys).splitlines()
    assert lines[0].lower().split() == list(GROUP_COLUMNS)
    assert lines[1].split()[0] == "1000"
    assert "shop/web" in lines[1]
    assert lines[1].split()[-1] == identifier(999)
    assert (lines[2].split()[0], "10.9.9.9" in lines[2]) == ("1", True)
    assert lines[3].startswith("lost   12 denials of shop/cart-0, spool_full")
    assert lines[4].startswith(f"chain  shop/cart-0 began another chain after {'ab' * 16}")
    assert len(lines) == 5


def test_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.loads(asked(folder, capsys, "-o", "json"))
    first = answer["denials"][0]
    assert (first["count"], first["example"], first["first"]) == (1000, identifier(999), denial(0)["time"])
    assert [gap["event"] for gap in answer["gaps"]] == ["chain", "lost"]
    assert "count: 1000" in asked(folder, capsys, "-o", "yaml")


def test_single_records(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = asked(folder, capsys, "--list", "--limit", "3").splitlines()
    ids = [line.split()[-1] for line in lines[1:4]]
    assert ids == [identifier(998), identifier(999), identifier(1000)]
    records = json.loads(asked(folder, capsys, "--list", "--limit", "1", "-o", "json"))["denials"]
    assert [record["event"] for record in records] == ["denial", "lost", "chain"]
    assert records[0] == denial(1000, peer={"ip": "10.9.9.9", "identity": None}, reason="no_identity")


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        (("--reason", "no_identity"), [1]),
        (("--peer", "shop/web"), [1000]),
        (("--peer", "10.9.9.9"), [1]),
        (("--would-be",), [1]),
        (("--workload", "deploy/cart", "-n", "shop"), [1000, 1]),
        (("--workload", "deployment/shop/other"), []),
        (("-n", "bank"), []),
        (("--until", denial(10)["time"]), [10]),
        (("--since", "1h"), []),
    ],
)
def test_filters(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], counts: list[int]
) -> None:
    answer = json.loads(asked(folder, capsys, "-o", "json", *words))
    assert [row["count"] for row in answer["denials"]] == counts


def test_would_be_denials_name_the_policy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = asked(folder, capsys, "--would-be")
    assert "explicit_deny  authorizationpolicy/shop/no" in " ".join(page.split("\n")[1].split(" ")).replace(
        "   ", "  "
    )


def test_nobody_was_denied(
    tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str], chain: Chain
) -> None:
    deliver(store, chain, {"event": "chain", "after": ""})
    assert asked(tmp_path / "audit", capsys).startswith("nobody was denied since 2020-01-01T00:00:00Z")


def test_cl_03_what_clients_sent_steers_no_terminal(
    tmp_path: Path, store: SqliteStore, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"method": "GET\u001b]0;x\u0007", "path": "/[red]\u202e\nx"}
    deliver(store, chain, denial(request=request, route=None))
    for words in ((), ("--list",)):
        page = asked(tmp_path / "audit", capsys, *words)
        assert not set(page) & {"\u001b", "\u0007", "\u202e"}
        assert "/[red]\\x202e\\x0ax" in page


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--store", "/nowhere"), ExitCode.NOT_FOUND),
        (("--since", "yesterday"), ExitCode.USAGE),
        (("--limit", "0"), ExitCode.USAGE),
        ((), ExitCode.UNREACHABLE),
    ],
)
def test_exit_codes(
    words: tuple[str, ...], code: ExitCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run(["denials", *words]) == code


def test_following_shows_each_once_and_ends_with_ctrl_c(
    tmp_path: Path, store: SqliteStore, chain: Chain
) -> None:
    deliver(store, chain, denial(0))
    # What starts the tests may ignore SIGINT, and a program begins with that.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from policyd.cli.main import main; main()"
    )
    words = ("denials", "--follow", "--store", str(tmp_path / "audit"), "--since", ALWAYS, "-o", "json")
    command = [sys.executable, "-c", program, *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        seen: list[dict[str, Any]] = [json.loads(process.stdout.readline())]
        deliver(store, chain, denial(1), {"event": "lost", "count": 1, "reason": "spool_full"}, denial(2))
        seen += [json.loads(process.stdout.readline()) for _ in range(3)]
        deliver(store, chain, denial(3))
        seen.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(WAIT_SECONDS) == 0
        finally:
            process.kill()
    assert [each.get("id") or each["event"] for each in seen] == [
        identifier(0),
        identifier(1),
        "lost",
        identifier(2),
        identifier(3),
    ]
