"""`policyctl inject` and `uninject`: manifests in, manifests out, one line about each beside them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run

MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: books}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: app, image: web}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: books}
spec: {ports: [{port: 80}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: books}
spec:
  schedule: "0 0 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          containers: [{name: job, image: job}]
---
apiVersion: v1
kind: Pod
metadata: {name: debug, namespace: books, annotations: {linkerd.io/inject: disabled}}
spec:
  containers: [{name: app, image: tools}]
"""
REFUSED = """\
apiVersion: v1
kind: Pod
metadata: {name: evil, namespace: books}
spec:
  containers: [{name: app, image: evil, securityContext: {runAsUser: 2102}}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "deploy.yaml"
    made.write_text(MANIFESTS)
    return made


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[list[Any], list[str]]:
    out, err = capsys.readouterr()
    return list(yaml.safe_load_all(out)), err.splitlines()


def test_every_pod_gets_its_proxy_and_every_object_a_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inject", "-f", str(file), "--image", "proxy:1"]) == ExitCode.DONE
    documents, report = printed(capsys)
    assert report == [
        "deployment/books/web: injected",
        "service/books/web: left: it has no pods",
        "cronjob/books/nightly: injected",
        "pod/books/debug: left: the pod's annotation says disabled",
    ]
    deployment, service, cron_job, pod = documents
    init = deployment["spec"]["template"]["spec"]["initContainers"]
    assert [each["image"] for each in init] == ["proxy:1"] * 3
    assert "policyd.dev/injected" in deployment["spec"]["template"]["metadata"]["annotations"]
    assert "initContainers" in cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [service, pod] == [
        each for each in yaml.safe_load_all(MANIFESTS) if each["kind"] in {"Service", "Pod"}
    ]


def test_a_second_time_changes_nothing_and_uninject_takes_it_back(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["inject", "-f", str(file)])
    once = tmp_path / "once.yaml"
    once.write_text(capsys.readouterr().out)
    run(["inject", "-f", str(once)])
    twice, report = printed(capsys)
    assert twice == list(yaml.safe_load_all(once.read_text()))
    assert report[0] == "deployment/books/web: has its proxy already"
    assert run(["uninject", "-f", str(once)]) == ExitCode.DONE
    without, report = printed(capsys)
    assert without == list(yaml.safe_load_all(MANIFESTS))
    assert report[0] == "deployment/books/web: its proxy is taken out"
    assert report[3] == "pod/books/debug: left: it has no proxy"


def test_from_stdin_to_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(MANIFESTS.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert run(["inject", "-f", "-", "-o", "json"]) == ExitCode.DONE
    made = json.loads(capsys.readouterr().out)
    assert (made["kind"], len(made["items"])) == ("List", 4)


def test_a_pod_that_is_refused_is_printed_as_it_was_and_the_exit_code_says_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(REFUSED)
    assert run(["inject", "-f", str(file)]) == ExitCode.NO
    documents, report = printed(capsys)
    assert documents == [yaml.safe_load(REFUSED)]
    (line,) = report
    assert line.startswith("pod/books/evil: refused: spec.containers[0].securityContext.runAsUser: 2102")


def test_settings_of_an_install(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "injection.json"
    config.write_text(json.dumps({"trustDomain": "example.org", "redirect": "node"}))
    assert run(["inject", "-f", str(file), "--config", str(config)]) == ExitCode.DONE
    documents, _ = printed(capsys)
    init = documents[0]["spec"]["template"]["spec"]["initContainers"]
    assert [each["name"] for each in init] == ["policyd-validate", "policyd-proxy"]
    config.write_text(json.dumps({"imageName": "x"}))
    assert run(["inject", "-f", str(file), "--config", str(config)]) == ExitCode.USAGE
    assert "imageName" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "a: b\n"], ids=["no YAML", "a list", "no manifest"])
def test_what_is_no_manifest_is_an_error_with_its_place(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    assert run(["inject", "-f", str(file)]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "broken.yaml:" in err


def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inject", "-f", str(tmp_path / "absent.yaml")]) == ExitCode.NOT_FOUND
    assert run(["inject", "-f", str(tmp_path)]) == ExitCode.USAGE
    assert run(["inject", "-f", str(tmp_path), "--image", "no image"]) == ExitCode.USAGE
    assert run(["inject"]) == ExitCode.USAGE
    assert "Traceback" not in capsys.readouterr().err
