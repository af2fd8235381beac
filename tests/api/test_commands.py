"""`policyctl` on a cluster: the same answers as from files, and exit codes that say what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from tests.api import crds, objects
from tests.api.controlling import policy, web
from tests.api.rig import ApiServer, free_ports


@pytest.fixture
def shop(api: ApiServer, namespace: str) -> str:
    """A namespace with a pod, its Server and a policy."""
    crds.install(api, *crds.ours())
    objects.create_pod(api, namespace, name="web", metadata={"labels": {"app": "web"}}, address="10.1.1.1")
    api.apply(web(namespace))
    written = policy("readers", "reader")
    written["metadata"]["namespace"] = namespace
    api.apply(written)
    return namespace


def test_the_same_answers_as_from_files(
    api: ApiServer, shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("pods", "servers.policyd.dev", "authorizationpolicies.policyd.dev", "meshdefaults"):
        listed = json.loads(api.kubectl("get", kind, "-n", shop, "-o", "json"))
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(listed))
    answers = []
    for source in (["-f", str(tmp_path)], ["--kubeconfig", str(api.kubeconfig)]):
        for command in (["compile", "pod/web"], ["routes", "pod/web"]):
            assert run([*command, "-n", shop, *source, "-o", "json"]) == ExitCode.DONE
            answer = json.loads(capsys.readouterr().out)
            for port in answer.get("ports", ()):
                for rule in port["rules"]:
                    rule.pop("written")  # a line of a file, a generation in a cluster
            answers.append(answer)
    assert answers[:2] == answers[2:]


def test_explain_asks_the_cluster(api: ApiServer, shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["explain", "--context", "tests", "--kubeconfig", str(api.kubeconfig), "-o", "json"]
    question = ["--to", f"pod/{shop}/web:80", "--path", "/"]
    allowed = run([*asked, *question, "--from", f"serviceAccount:{shop}/reader"])
    assert allowed == ExitCode.DONE, capsys.readouterr().err
    capsys.readouterr()
    assert run([*asked, *question, "--from", f"serviceAccount:{shop}/other"]) == ExitCode.NO
    told = json.loads(capsys.readouterr().out)
    assert told["reason"] == "no_matching_rule"
    assert told["fix"]["summary"], "the objects of a cluster can be mended, too"
    assert f"/{shop}/" in told["fix"]["patch"]


def test_names_of_accounts_mean_the_trust_domain_of_the_install(
    api: ApiServer, shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.kubectl("delete", "configmaps", "-A", "--field-selector", "metadata.name=policyd-install")
    metadata = {"name": "policyd-install", "namespace": shop}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    api.apply(settings | {"data": {"settings.json": json.dumps({"trustDomain": "example.org"})}})
    asked = ["explain", "--kubeconfig", str(api.kubeconfig), "-o", "json", "--to", f"pod/{shop}/web:80"]
    assert run([*asked, "--from", f"serviceAccount:{shop}/reader"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["peer"]["identity"] == f"spiffe://example.org/ns/{shop}/sa/reader"
    api.kubectl("delete", "configmap", "-n", shop, "policyd-install")


def test_check_says_what_is_wrong_with_a_cluster(
    api: ApiServer, shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = web(shop)
    bad["metadata"]["name"] = "bad"
    bad["spec"]["prot"] = 1
    api.apply(bad)
    assert run(["check", "--kubeconfig", str(api.kubeconfig), "-o", "json"]) == ExitCode.NO
    findings = json.loads(capsys.readouterr().out)["findings"]
    fields = {each["field"] for each in findings if each["object"] == f"server.policyd.dev/{shop}/bad"}
    assert "spec.prot" in fields


def test_exit_codes_say_what_went_wrong(
    api: ApiServer, shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = objects.account_token(api, shop, "default")
    nobody = api.write_kubeconfig(f"{shop}:default", token)
    assert run(["check", "--kubeconfig", str(nobody)]) == ExitCode.FORBIDDEN
    assert "forbidden" in capsys.readouterr().err
    unknown = api.write_kubeconfig("unknown", "wrong-token")
    assert run(["check", "--kubeconfig", str(unknown)]) == ExitCode.FORBIDDEN
    (port,) = free_ports(1)
    away = tmp_path / "away"
    away.write_text(api.kubeconfig.read_text().replace(str(api.port), str(port)))
    assert run(["check", "--kubeconfig", str(away)]) == ExitCode.UNREACHABLE
    assert str(port) in capsys.readouterr().err
    assert run(["check", "--kubeconfig", str(tmp_path / "absent")]) == ExitCode.USAGE
    assert run(["check", "--kubeconfig", str(api.kubeconfig), "--context", "third"]) == ExitCode.USAGE
    assert run(["compile", "pod/absent", "--kubeconfig", str(api.kubeconfig)]) == ExitCode.NOT_FOUND
    assert run(["check", "-f", str(tmp_path), "--kubeconfig", str(api.kubeconfig)]) == ExitCode.USAGE
    assert "one of them" in capsys.readouterr().err
