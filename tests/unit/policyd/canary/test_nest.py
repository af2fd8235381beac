"""What canaries consist of, what explain expects of them, and what is made of what they tell."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.inject import Injected, Left, inject
from policyd.admission.injection import Injection
from policyd.canary import program
from policyd.canary.cluster import state_of
from policyd.canary.evidence import Evidence, Heard, expected
from policyd.canary.flock import BARE, CALLER, CANARIES, ROLES, calls_of
from policyd.canary.nest import Nest
from policyd.canary.verdicts import judged
from policyd.checkup.check import Result
from policyd.compile.report import report
from policyd.explain.manifests import Manifests
from tests.unit.policyd.install.restricted import faults

NEST = Nest(("policyd-canary",), "localhost/policyd:1", namespace="policyd-canary-x")
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)

Json = dict[str, Any]


def objects() -> list[Json]:
    pods = [NEST.server(), *(NEST.caller(role, "10.0.0.1:8080") for role in ROLES)]
    return [NEST.home(), *NEST.accounts(), *NEST.policies(), *pods]


def test_p_17_the_pods_fit_the_restricted_profile() -> None:
    for pod in (each for each in objects() if each["kind"] == "Pod"):
        assert not list(faults(pod["spec"]))
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_every_pod_but_the_bare_one_gets_a_proxy() -> None:
    facts = NamespaceFacts(NEST.namespace, NEST.home()["metadata"]["labels"])
    for pod in (each for each in objects() if each["kind"] == "Pod"):
        found = inject(pod, facts, Injection())
        wanted = Left if pod["metadata"]["name"] == BARE else Injected
        assert isinstance(found, wanted), (pod["metadata"]["name"], found)


def test_explain_expects_what_the_canaries_are_for(tmp_path: Path) -> None:
    decisions = expected(objects(), tmp_path, "cluster.local", AT)
    for each in CANARIES:
        assert decisions[each.name].reason.startswith(each.reason), each.name
        assert decisions[each.name].status in {each.status, None if each.allowed else each.status}
    manifests = Manifests.read([tmp_path])
    errors = [each for each in report(manifests.compiler, AT) if each.severity == "error"]
    assert not errors, [each.text for each in errors]


@pytest.mark.promise("P-20")
def test_p_20_what_the_whole_cluster_denies_proves_nothing(tmp_path: Path) -> None:
    deny = {"name": "nobody", "identities": ["*"], "withoutIdentity": "Ignore"}
    defaults = {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "MeshDefaults",
        "metadata": {"name": "default"},
        "spec": {"deny": [deny]},
    }
    decisions = expected([*objects(), defaults], tmp_path, "cluster.local", AT)
    lines = {each.text: each.result for each in judged(Evidence(), decisions)}
    allowed = lines["what a policy grants is allowed"]
    assert allowed.outcome == "warning"
    assert "meshdefaults.policyd.dev/default#deny/nobody" in allowed.detail


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return expected(objects(), tmp_path_factory.mktemp("world"), "cluster.local", AT)


def sound(decisions: Mapping[str, Any]) -> Evidence:
    """What is heard where all is well."""
    evidence = Evidence()
    for each in CANARIES:
        if each.allowed:
            answer = Heard(each.name, 200, None, {"peer": "10.0.0.9"}, "10.0.0.7")
        else:
            answer = Heard(each.name, each.status, f"id-{each.name}", None, "10.0.0.7")
            decision = decisions[each.name]
            evidence.records[f"id-{each.name}"] = {
                "reason": decision.reason,
                "authorization": decision.authorization,
            }
        evidence.heard[each.name] = answer
    return evidence


def outcomes(evidence: Evidence, decisions: Mapping[str, Any]) -> dict[str, Result]:
    names = {each.does: each.name for each in CANARIES}
    return {names[line.text]: line.result for line in judged(evidence, decisions)}


def test_a_sound_mesh_has_no_findings(decisions: Mapping[str, Any]) -> None:
    assert {each.outcome for each in outcomes(sound(decisions), decisions).values()} == {"ok"}


LIES: dict[str, Callable[[Heard], Heard | None]] = {
    "never heard of": lambda heard: None,
    "no answer": lambda heard: Heard(heard.canary, error="refused"),
    "past the proxy": lambda heard: Heard(heard.canary, 200, None, {"peer": "10.0.0.7"}, "10.0.0.7"),
    "somebody else": lambda heard: Heard(heard.canary, 200, None, None, "10.0.0.7"),
    "no id": lambda heard: Heard(heard.canary, 403, None, None, "10.0.0.7"),
    "an id that nobody recorded": lambda heard: Heard(
        heard.canary, heard.status, "unknown", None, "10.0.0.7"
    ),
    "another status": lambda heard: Heard(heard.canary, 429, heard.decision, None, "10.0.0.7"),
}


@pytest.mark.promise("P-20")
@pytest.mark.parametrize(("lie", "name"), list(itertools.product(LIES, [each.name for each in CANARIES])))
def test_p_20_no_canary_succeeds_on_less(lie: str, name: str, decisions: Mapping[str, Any]) -> None:
    evidence = sound(decisions)
    told = LIES[lie](evidence.heard.pop(name))
    if told is not None:
        evidence.heard[name] = told
    found = outcomes(evidence, decisions)
    assert found.pop(name).outcome == "error"
    assert {each.outcome for each in found.values()} == {"ok"}


@pytest.mark.promise("P-20")
@pytest.mark.parametrize("name", [each.name for each in CANARIES if not each.allowed])
def test_p_20_a_denial_for_another_reason_is_no_success(name: str, decisions: Mapping[str, Any]) -> None:
    evidence = sound(decisions)
    evidence.records[f"id-{name}"] = {"reason": "no_policy_loaded", "authorization": None}
    found = outcomes(evidence, decisions)[name]
    assert found.outcome == "error"
    assert "no_policy_loaded" in found.detail
    assert decisions[name].reason in found.detail


def test_lines_of_logs_that_are_none_of_ours_are_passed_over() -> None:
    evidence = Evidence()
    evidence.take_all(["", "plain", "{", "[1]", "{}", '{"event": "denial"}', '{"event": "denial", "id": 7}'])
    evidence.take('{"event": "denial", "id": "a"}')
    evidence.take('{"canary": "allowed", "status": 200}')
    assert (set(evidence.records), set(evidence.heard)) == ({"a"}, {"allowed"})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_programs_understand_each_other(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[ThreadingHTTPServer] = []
    seen = threading.Event()

    def stopped() -> None:
        """In the place of SIGTERM: the server lives until the calls are over."""

    monkeypatch.setattr(program, "_until_stopped", stopped)
    begin = ThreadingHTTPServer.serve_forever

    def remembered(server: ThreadingHTTPServer, *rest: Any) -> None:
        servers.append(server)
        seen.set()
        begin(server, *rest)

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", remembered)
    try:
        program.serve({program.LISTEN: f"{host}:0", program.NONCE: "n"})
    except OSError:
        pytest.skip("no IPv6 on this machine")
    assert seen.wait(10)
    try:
        lines: list[str] = []
        target = f"{host}:{servers[0].server_address[1]}"
        environ = replace(NEST, nonce="n", seconds=10.0).caller_variables(CALLER, target)
        environ[program.SOURCE] = host
        program.call(environ, lines.append)
        evidence = Evidence()
        evidence.take_all(lines)
        assert set(evidence.heard) == set(calls_of(CALLER))
        assert all(each.status == 200 and each.past_the_proxy for each in evidence.heard.values())
        wrong = program.attempt(environ | {program.NONCE: "another"}, "/")
        assert (wrong["status"], wrong["application"]) == (200, None)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    away = program.attempt({program.TARGET: target, program.NONCE: "n"}, "/")
    assert away["status"] is None
    assert away["error"]
    assert json.dumps(away)


def stage(kind: str, name: str, **status: Any) -> Json:
    return {f"{kind}Statuses": [{"name": name, **status}]}


STUCK = "Pending, and no kubelet says why"
UNPLACED = {"type": "PodScheduled", "status": "False", "message": "no node"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, STUCK),
        ({"phase": "Running"}, ""),
        ({"phase": "Failed"}, "Failed"),
        ({"conditions": [UNPLACED]}, "not scheduled: no node"),
        (stage("initContainer", "validate", state={"terminated": {"exitCode": 1}}), "validate ended with 1"),
        (
            stage("initContainer", "policyd-proxy", state={"running": {}}, started=False),
            "policyd-proxy runs, and isn't ready: see its log",
        ),
        (stage("container", "canary", state={"waiting": {"reason": "ErrPull"}}), "canary waits: ErrPull"),
        (stage("container", "canary", state={"waiting": {"reason": "PodInitializing"}}), STUCK),
    ],
)
def test_a_pod_that_does_not_run_is_said_to_hang_on_something(status: Json, said: str) -> None:
    assert state_of({"status": status}) == said
