"""WH-10, P-19: which pods of an enrolled namespace have no working proxy."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.inject import Injected, inject
from policyd.admission.injection import Injection
from policyd.admission.unmeshed import ADVICE, CLOSED, repository, tag, unmeshed

SETTINGS = Injection()
ENROLLED = NamespaceFacts("books", {"policyd.dev/inject": "enabled"})
LOOSE = NamespaceFacts("books", {"policyd.dev/inject": "enabled", "policyd.dev/opt-out": "allowed"})

Json = dict[str, Any]


def bare(**spec: Any) -> Json:
    return {
        "metadata": {"name": "app-1", "namespace": "books", "uid": "u", "annotations": {}},
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
        "status": {"phase": "Running"},
    }


def meshed(**spec: Any) -> Json:
    found = inject(bare(**spec), ENROLLED, SETTINGS)
    assert isinstance(found, Injected), found
    return copy.deepcopy(dict(found.pod))


def reason(pod: Json, facts: NamespaceFacts = ENROLLED, settings: Injection = SETTINGS) -> str | None:
    found = unmeshed(pod, facts, settings)
    assert found is None or (found.pod, found.uid) == ("books/app-1", "u")
    return None if found is None else found.reason


def with_status(proxy: Json, *, app_runs: bool = True) -> Json:
    pod = meshed()
    pod["status"] |= {
        "initContainerStatuses": [{"name": "policyd-proxy", **proxy}],
        "containerStatuses": [{"name": "app", "state": {"running": {}} if app_runs else {"waiting": {}}}],
    }
    return pod


def test_wh_10_what_was_injected_is_well() -> None:
    assert reason(meshed()) is None
    assert reason(with_status({"state": {"running": {}}, "ready": True})) is None
    assert reason(with_status({"state": {"waiting": {}}}, app_runs=False)) is None, "it starts"


@pytest.mark.promise("P-19")
def test_wh_10_a_pod_that_is_older_than_the_enrolment() -> None:
    assert reason(bare()) == "no_proxy"
    assert reason(bare(), LOOSE) == "no_proxy"
    for phase in ("Succeeded", "Failed"):
        assert reason(bare() | {"status": {"phase": phase}}) is None


def test_wh_10_only_enrolled_namespaces_are_asked() -> None:
    for labels in ({}, {"policyd.dev/inject": "disabled"}):
        assert reason(bare(), NamespaceFacts("books", labels)) is None
    for name in ("kube-system", "policyd"):
        assert unmeshed(bare(), NamespaceFacts(name, ENROLLED.labels), SETTINGS) is None


def test_wh_10_who_may_leave_and_did_is_no_finding() -> None:
    pod = bare()
    pod["metadata"]["annotations"] = {"policyd.dev/inject": "disabled"}
    assert reason(pod, LOOSE) is None
    assert reason(pod) == "no_proxy", "nobody may leave there"


def test_wh_10_what_can_never_have_a_proxy() -> None:
    assert reason(bare(hostNetwork=True)) == "impossible"
    static = bare()
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert reason(static) == "impossible"


def without(name: str) -> Callable[[Json], None]:
    def change(pod: Json) -> None:
        kept = [each for each in pod["spec"]["initContainers"] if each["name"] != name]
        pod["spec"]["initContainers"] = kept

    return change


def proxy(pod: Json) -> Json:
    return next(each for each in pod["spec"]["initContainers"] if each["name"] == "policyd-proxy")


def set_(**fields: Any) -> Callable[[Json], None]:
    return lambda pod: proxy(pod).update(fields)


def as_root(pod: Json) -> None:
    proxy(pod)["securityContext"]["runAsUser"] = 0


def obeys(**changed: Any) -> Callable[[Json], None]:
    def change(pod: Json) -> None:
        (variable,) = [each for each in proxy(pod)["env"] if each["name"] == "POLICYD_PROXY_CONFIG"]
        variable["value"] = json.dumps(json.loads(variable["value"]) | changed)

    return change


def trusts_another(pod: Json) -> None:
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "policyd-trust"]
    volume["projected"]["sources"][0]["configMap"]["name"] = "mine"


def runs_first(pod: Json) -> None:
    pod["spec"]["initContainers"].insert(0, {"name": "first", "image": "x"})


def another_user(pod: Json) -> None:
    pod["spec"]["containers"][0]["securityContext"] = {"runAsUser": 2102}


def attached(pod: Json) -> None:
    pod["spec"]["ephemeralContainers"] = [
        {"name": "look", "image": "x", "targetContainerName": "policyd-proxy"}
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without("policyd-proxy"), "no_proxy"),
        (without("policyd-redirect"), "not_redirected"),
        (without("policyd-validate"), "not_redirected"),
        (runs_first, "not_redirected"),
        (set_(image="evil/policyd-proxy:0.1.0"), "not_ours"),
        (set_(image="policyd-proxy"), None),
        (set_(image="policyd-proxy:0.0.9"), None),
        (set_(image="policyd-proxy@sha256:00"), None),
        (set_(command=["/bin/sleep", "1d"]), "not_ours"),
        (set_(restartPolicy=None), "not_ours"),
        (set_(env=[]), "not_ours"),
        (set_(env=[{"name": "POLICYD_PROXY_CONFIG", "value": "["}]), "not_ours"),
        (as_root, "not_ours"),
        (obeys(trustDomain="evil.example"), "not_ours"),
        (obeys(policy={"address": "evil:1", "serviceAccount": "policyd"}), "not_ours"),
        (obeys(transparent=None, inbound=[]), "not_ours"),
        (obeys(memoryMib=999), None),
        (trusts_another, "not_ours"),
        (another_user, "gets_around"),
        (attached, "gets_around"),
    ],
)
@pytest.mark.promise("P-19")
def test_wh_10_what_was_taken_away_or_forged(change: Callable[[Json], None], expected: str | None) -> None:
    pod = meshed()
    change(pod)
    assert reason(pod) == expected
    assert reason(pod, LOOSE) == expected


def test_wh_10_what_could_undo_the_redirection() -> None:
    pod = meshed()
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert reason(pod) == "gets_around"
    assert reason(pod, LOOSE) is None, "where pods may leave, this is only warned of"


def test_wh_10_a_redirection_by_the_node_needs_no_step() -> None:
    pod = meshed()
    without("policyd-redirect")(pod)
    assert reason(pod, settings=Injection(redirect="node")) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 7}, "not_running"),
        ({"state": {"terminated": {"reason": "OOMKilled"}}}, "not_running"),
        ({"state": {"running": {}}, "ready": False}, "not_ready"),
    ],
)
def test_wh_10_a_proxy_that_is_down_closes_and_is_told_of(state: Json, expected: str) -> None:
    found = unmeshed(with_status(state), ENROLLED, SETTINGS)
    assert found is not None
    assert found.reason == expected
    assert not found.is_open


def test_each_reason_has_advice_and_a_test() -> None:
    tried = {
        "impossible",
        "no_proxy",
        "not_redirected",
        "not_ours",
        "gets_around",
        "not_running",
        "not_ready",
    }
    assert set(ADVICE) == tried
    assert set(ADVICE) >= CLOSED


@pytest.mark.parametrize(
    ("image", "name", "version"),
    [
        ("policyd-proxy:0.1.0", "policyd-proxy", "0.1.0"),
        ("localhost:5000/a/policyd-proxy", "localhost:5000/a/policyd-proxy", ""),
        ("localhost:5000/a/policyd-proxy:1@sha256:ab", "localhost:5000/a/policyd-proxy", "1"),
        ("a@sha256:ab", "a", ""),
    ],
)
def test_an_image_is_a_name_and_a_tag(image: str, name: str, version: str) -> None:
    assert (repository(image), tag(image)) == (name, version)


@pytest.mark.parametrize("written", [{}, {"spec": 7}, {"spec": {"containers": []}}])
def test_wh_10_what_cant_be_read_is_a_finding_and_no_crash(written: Json) -> None:
    found = unmeshed(written, ENROLLED, SETTINGS)
    assert found is not None
    assert found.is_open
