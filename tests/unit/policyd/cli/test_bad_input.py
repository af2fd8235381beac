"""Commands given files that are none, and ended in the middle (CL-01, CL-02, CL-04, CL-05)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run

VALID = """\
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: s, namespace: n}
spec: {podSelector: {}, port: 8080}
"""
UNKNOWN = VALID.replace("port: 8080", "port: 8080, prot: 1").replace("name: s", "name: unknown")
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
BAD: dict[str, tuple[bytes, str]] = {
    "no YAML": (b"a: [\n", r"bad.yaml:[24]:1"),
    "a tab": (b"a:\n\tb: 1\n", "bad.yaml:2:1"),
    "no UTF-8": (VALID.encode() + b"\xff\xfe\n", r"bad.yaml:\d+:\d+"),
    "no UTF-8, but UTF-16": (VALID.encode("utf-16"), r"bad.yaml:\d+:\d+"),
    "a NUL": (b"a: \x00\n", r"bad.yaml:1:\d+"),
    "the second document": (VALID.encode() + b"---\na: b: c\n", "bad.yaml:6:5"),
    "ten thousand million aliases": (LAUGHS.encode(), r"bad.yaml:\d+:\d+"),
    "an alias of itself": (b"a: &a [*a]\n", r"bad.yaml:1:\d+"),
    "depth": (b"a: " + b"[" * 5_000, r"bad.yaml:1:\d+"),
    "50 MiB": (b"# " + b"x" * (50 * 2**20), r"bad.yaml.* 50.0 MiB"),
    "a key twice": (VALID.encode() + b"spec: {}\n", r"bad.yaml:5:\d+"),
}
MOST_SECONDS = 20.0
"""Against what never ends: one of them takes a second."""


@pytest.mark.parametrize("command", ["check", "test"])
@pytest.mark.parametrize("what", BAD)
def test_cl_02_a_file_that_is_none_is_refused_with_its_place(
    what: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, place = BAD[what]
    if command == "test":
        content += b"\n# PolicyTest\n"  # else it is none of its business
    (tmp_path / "bad.yaml").write_bytes(content)
    (tmp_path / "good.yaml").write_text(VALID)
    began = time.monotonic()
    code = run([command, *(["-f"] if command == "check" else []), str(tmp_path)])
    assert code == ExitCode.USAGE
    assert time.monotonic() - began < MOST_SECONDS
    assert re.search(place, capsys.readouterr().err)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_cl_02_lines_are_counted_the_same_however_they_end(
    ends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.yaml").write_bytes(f"{VALID}---\n{UNKNOWN}".replace("\n", ends).encode())
    assert run(["check", "-f", str(tmp_path)]) == ExitCode.NO
    assert "some.yaml:9:" in "".join(capsys.readouterr())


def test_cl_01_an_unknown_option_is_usage_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--frce"]) == ExitCode.USAGE
    assert "--frce" in capsys.readouterr().err


def policyctl(*words: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "policyd.cli.main", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def test_cl_04_who_stops_reading_ends_it_without_a_word(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}.yaml").write_text(UNKNOWN.replace("unknown", f"s{number}"))
    with policyctl("check", "-f", str(tmp_path), "-o", "json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (ExitCode.DONE, ExitCode.NO)


def test_cl_04_a_narrow_terminal_without_colours_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(UNKNOWN)
    with policyctl("check", "-f", str(tmp_path), COLUMNS="40", NO_COLOR="1", TERM="xterm") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.NO
    assert b"\x1b" not in out + err
    assert b"Traceback" not in err


def test_cl_04_interrupted_it_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __getattr__(self, _name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    assert run(["inject", "-f", "-"]) == 130
    assert capsys.readouterr().err.split() == ["policyctl:", "interrupted"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.yaml", "https://127.0.0.1:1/a.yaml"])
def test_cl_05_manifests_come_from_files_and_never_over_the_network(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["check", "-f", url], ["test", url], ["inject", "-f", url]):
        assert run(command) in (ExitCode.USAGE, ExitCode.NOT_FOUND)
        assert "a.yaml" in capsys.readouterr().err
