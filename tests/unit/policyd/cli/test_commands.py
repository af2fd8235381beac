"""`policyctl`: answers, exit codes, and what bad input says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import COMMANDS, run
from policyd.errors import SourceError

WORLD = """\
apiVersion: v1
kind: Namespace
metadata: {name: books}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: authors, namespace: books}
spec:
  selector: {matchLabels: {app: authors}}
  template:
    metadata: {labels: {app: authors}}
    spec:
      serviceAccountName: authors
      containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: authors, namespace: books}
spec: {podSelector: {matchLabels: {app: authors}}, port: http}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: authors}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: webapp}]
"""
TEST = """\
apiVersion: policyd.dev/v1alpha1
kind: PolicyTest
metadata: {name: books}
manifests: [world.yaml]
cases:
- name: webapp may read
  to: deployment/books/authors:http
  from: {serviceAccount: books/webapp}
  http: {path: /}
  expect: {verdict: allow, authorization: readers}
- name: others may not
  to: deployment/books/authors:8080
  http: {path: /}
  expect: {verdict: deny, reason: no_identity, status: 403}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "world.yaml").write_text(WORLD)
    (tmp_path / "policytest.yaml").write_text(TEST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


ASK = ("explain", "-f", "world.yaml", "-n", "books", "--to", "deploy/authors:http", "--from")


def test_an_allowed_request_exits_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK, "serviceAccount:books/webapp", "--path", "/a"]) == ExitCode.DONE
    page = capsys.readouterr().out
    assert page.startswith("ALLOWED  allowed  HTTP 200")
    assert "authorizationpolicy/books/readers  world.yaml:2" in page


def test_a_denied_request_exits_with_1_and_shows_miss_and_fix(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ASK, "sa:editor", "--path", "/a", "--method", "POST"]) == ExitCode.NO
    page = capsys.readouterr().out
    assert page.startswith("DENIED  no_matching_rule  HTTP 403")
    assert "POST /a to deployment/books/authors:8080" in page
    assert "it names books/webapp; the caller is books/editor" in page
    assert "+++ world.yaml" in page
    assert "what else it allows\n  nothing" in page
    assert "\x1b" not in page


def test_json_has_the_decision_and_what_explain_adds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ASK, "anonymous", "-o", "json"]) == ExitCode.NO
    answer = json.loads(capsys.readouterr().out)
    decision = {
        "id",
        "verdict",
        "reason",
        "status",
        "grpcStatus",
        "server",
        "route",
        "authorization",
        "origin",
    }
    added = {"table", "facts", "audit", "request", "peer", "nearMisses", "fix", "history", "now"}
    assert decision | added <= answer.keys()
    assert (answer["verdict"], answer["reason"], answer["status"]) == ("deny", "no_identity", 403)
    assert answer["server"] == "server.policyd.dev/books/authors"
    assert answer["table"].startswith("sha256:")


def test_yaml_says_the_same_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*ASK, "anonymous", "-o", "json"])
    first = json.loads(capsys.readouterr().out)
    run([*ASK, "anonymous", "-o", "yaml"])
    second = yaml.safe_load(capsys.readouterr().out)
    assert {**first, "fix": None} == {**second, "fix": None}


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("spiffe://cluster.local/ns/books/sa/webapp", 0),
        ("serviceAccount:books/webapp", 0),
        ("sa:webapp", 0),
        ("deploy/authors", 1),
        ("anonymous", 1),
        ("spiffe://cluster.local/*", 2),
        ("spiffe://", 2),
        ("serviceAccount:a/b/c", 2),
        ("webapp", 2),
    ],
)
def test_a_caller_can_be_spelled_in_several_ways(folder: Path, caller: str, expected: int) -> None:
    assert run([*ASK, caller]) == expected


def test_grpc_and_tcp_can_be_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*ASK, "anonymous", "--grpc", "books.Shelf/List", "-o", "json"])
    assert json.loads(capsys.readouterr().out)["grpcStatus"] == 16
    run([*ASK, "anonymous", "--tcp", "-o", "json"])
    assert json.loads(capsys.readouterr().out)["status"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["explain", "-f", "world.yaml"], 2, "--to WORKLOAD:PORT"),
        (["explain", "-f", "nothing", "--to", "a:1", "--from", "anonymous"], 2, "nothing: no such file"),
        ([*ASK, "anonymous", "--grpc", "x"], 2, "expected SERVICE/METHOD"),
        ([*ASK, "anonymous", "--tcp", "--grpc", "a/b"], 2, "at most one"),
        ([*ASK, "anonymous", "--ip", "10.0.0"], 2, "expected an IP address"),
        ([*ASK, "anonymous", "--header", "x"], 2, "expected NAME: VALUE"),
        ([*ASK, "anonymous", "--at", "noon"], 2, "expected RFC 3339"),
        (
            ["explain", "-f", "world.yaml", "--to", "deploy/authors:http", "--from", "anonymous"],
            5,
            "books/authors",
        ),
        (
            ["explain", "-f", "world.yaml", "--to", "thing/authors:1", "--from", "anonymous"],
            2,
            "names no workload",
        ),
        (
            [
                "explain",
                "-f",
                "world.yaml",
                "-n",
                "books",
                "--to",
                "deploy/authors:web",
                "--from",
                "anonymous",
            ],
            2,
            "http",
        ),
        (["compile", "deployment/books/nobody", "-f", "world.yaml"], 5, "no deployment/books/nobody"),
        (["compile", "deployment/books/authors"], 2, "-f FILE"),
        (["test", "world.yaml"], 5, "no PolicyTest in world.yaml"),
        (["frobnicate"], 2, "no command 'frobnicate'"),
        (["check", "--frobnicate"], 2, "No such option"),
        (["status"], 3, "is `policyctl up` running?"),
        (["explain", "0190-abcd"], 3, "is `policyctl up` running?"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert run(arguments) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "Traceback" not in told.err


def test_compile_shows_every_port_with_its_rules(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["compile", "deploy/authors", "-n", "books", "-f", "world.yaml", "-o", "json"]) == ExitCode.DONE
    )
    table = json.loads(capsys.readouterr().out)
    port = next(port for port in table["ports"] if port["server"])
    assert port["ports"] == [8080]
    (rule,) = port["rules"]
    assert (rule["action"], rule["who"], rule["what"]) == ("allow", "books/webapp", "everything")
    assert rule["written"].startswith("world.yaml:")
    assert table["ports"][-1]["ports"] == "other"


def test_compile_prints_a_page_without_colour_where_there_is_no_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compile", "deploy/authors", "-n", "books", "-f", "world.yaml"]) == ExitCode.DONE
    page = capsys.readouterr().out
    assert "port 8080  unknown  server/books/authors  default deny" in page
    assert "\x1b" not in page


def test_routes_says_who_may_call_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["routes", "deploy/authors", "-n", "books", "-f", "world.yaml", "-o", "json"]) == ExitCode.DONE
    rows = json.loads(capsys.readouterr().out)["routes"]
    assert {
        "port": "8080",
        "requests": "everything",
        "action": "allow",
        "who": "books/webapp",
        "when": None,
        "because": "authorizationpolicy/books/readers",
    } in rows


def test_test_reports_passes_and_failures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test"]) == ExitCode.DONE
    assert "2 passed, 0 failed in 1 tests" in capsys.readouterr().out
    (folder / "policytest.yaml").write_text(TEST.replace("authorization: readers", "authorization: writers"))
    assert run(["test", "-o", "json"]) == ExitCode.NO
    report = json.loads(capsys.readouterr().out)
    assert (report["passed"], report["failed"]) == (1, 1)
    failed = report["cases"][0]
    assert failed.keys() >= {"test", "name", "passed", "expected", "decision"}
    assert failed["wrong"] == [
        "authorization: expected writers, got authorizationpolicy.policyd.dev/books/readers"
    ]
    assert run(["test", "."]) == ExitCode.NO
    assert "policytest.yaml:6: webapp may read" in capsys.readouterr().out


def test_a_tail_that_could_be_two_names_is_no_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = WORLD[WORLD.rindex("---") :].replace("policyd.dev/v1alpha1", "policy.linkerd.io/v1alpha1")
    (folder / "world.yaml").write_text(WORLD + second)
    assert run(["test"]) == ExitCode.NO
    assert "readers could be" in capsys.readouterr().out


def test_check_without_findings_exits_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "world.yaml"]) == ExitCode.DONE
    assert "no findings" in capsys.readouterr().out


def test_check_names_file_line_column_field_value_and_expectation(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = WORLD.replace("port: http}", "port: 70000, acessPolicy: deny}")
    (folder / "world.yaml").write_text(text)
    assert run(["check", "world.yaml", "-o", "json"]) == ExitCode.NO
    report = json.loads(capsys.readouterr().out)
    found = {each["field"]: each for each in report["findings"]}
    assert {"spec.port", "spec.acessPolicy"} <= found.keys()
    assert found["spec.acessPolicy"]["line"] == 19
    assert "accessPolicy" in f"{found['spec.acessPolicy']['message']} {found['spec.acessPolicy']['advice']}"
    assert "70000" in found["spec.port"]["message"]
    assert report["errors"] >= 2


@pytest.mark.shows("U6")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "not YAML"),
        (b"a: 1\n\tb: 2\n", "tab"),
        (b"a: 1\na: 2\n", "bad.yaml:2:1"),
        (b"a: \xff\xfe\n", "UTF-8"),
        (b"a: b\x00c\n", "NUL"),
        (
            b"a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"
            + b"".join(
                b"c%d: &c%d [%s]\n" % (i, i, b", ".join([b"*b" if i == 0 else b"*c%d" % (i - 1)] * 8))
                for i in range(9)
            ),
            "alias",
        ),
    ],
    ids=["unfinished", "tab", "duplicate key", "no UTF-8", "NUL", "alias bomb"],
)
def test_a_file_that_is_no_yaml_is_exit_2_at_a_cold_start(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    (folder / "bad.yaml").write_bytes(content)
    for arguments in (["check", "-f", "."], [*ASK[:1], "-f", ".", *ASK[3:], "anonymous"]):
        assert run(arguments) == ExitCode.USAGE
        told = capsys.readouterr()
        assert told.out == ""
        assert "bad.yaml" in told.err
        assert said in told.err
        assert "Traceback" not in told.err


def test_every_command_has_a_help_page_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        code = run([name, "--help"])
        page = capsys.readouterr().out
        if code == ExitCode.DONE and page:
            assert "Example" in page, name
            assert "policyctl" in page


def test_completion_prints_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) == ExitCode.DONE
    assert "_POLICYCTL_COMPLETE" in capsys.readouterr().out


def test_debug_lets_an_exception_through(folder: Path) -> None:
    with pytest.raises(SourceError):
        run(["--debug", "check", "-f", "nothing"])


@pytest.mark.parametrize(
    "words",
    [
        ["--pre", "--loopback"],
        ["--canaries", "--control-plane"],
        ["--canaries", "-f", "x"],
        ["--loopback", "x"],
    ],
)
def test_check_does_one_thing_at_a_time(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", *words]) == ExitCode.USAGE
    assert "expected one of --pre" in capsys.readouterr().err
