"""What becomes of pods: the cases of pods.yaml, and what holds for every pod that is injected."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.inject import Injected, Left, Outcome, Refused, inject, uninject
from policyd.admission.injection import Injection, ProxyResources

CASES = yaml.safe_load((Path(__file__).parent / "pods.yaml").read_text(encoding="utf-8"))
ENROLLED = {"labels": {"policyd.dev/inject": "enabled"}}
SETTINGS = Injection()

Json = dict[str, Any]


def pod_of(case: Json) -> Json:
    container = {"name": "app", "image": "app", **case.get("container", {})}
    metadata: Json = {"generateName": "app-", "namespace": "books"}
    if "annotations" in case:
        metadata["annotations"] = case["annotations"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **case.get("spec", {})},
    }


def namespace_of(case: Json) -> NamespaceFacts:
    written = case.get("namespace", ENROLLED)
    return NamespaceFacts(
        written.get("name", "books"), written.get("labels", {}), written.get("annotations", {})
    )


def outcome_of(case: Json) -> Outcome:
    return inject(pod_of(case), namespace_of(case), SETTINGS)


def injected(case: Json, settings: Injection = SETTINGS) -> Injected:
    found = inject(pod_of(case), namespace_of(case), settings)
    assert isinstance(found, Injected), found
    return found


def applied(pod: Json, operations: Any) -> Json:
    """Apply a JSON patch, as a reader of RFC 6902 would."""
    made = copy.deepcopy(pod)
    for each in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in each["path"].split("/")[1:]]
        place: Any = made
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        value = copy.deepcopy(each.get("value"))
        if isinstance(place, list):
            index = len(place) if last == "-" else int(last)
            assert each["op"] == "add"
            place.insert(index, value)
        elif each["op"] == "remove":
            del place[last]
        else:
            assert each["op"] == "add" or last in place
            place[last] = value
    return made


@pytest.mark.parametrize("case", CASES, ids=[each["case"] for each in CASES])
def test_a_pod_becomes_what_the_case_says(case: Json) -> None:
    match outcome_of(case):
        case Injected(warnings=warnings):
            assert [each.field for each in warnings] == case["injected"]
        case Refused(problems):
            assert {each.field for each in problems} >= set(case["refused"])
            assert all(len(each.message) < 300 for each in problems)
        case Left(reason):
            assert case["left"] in reason


INJECTED = [each for each in CASES if "injected" in each]


@pytest.mark.parametrize("case", INJECTED, ids=[each["case"] for each in INJECTED])
def test_wh_03_an_injected_pod_is_left_as_it_is(case: Json) -> None:
    first = injected(case)
    assert first.operations
    assert applied(pod_of(case), first.operations) == first.pod
    again = inject(first.pod, namespace_of(case), SETTINGS)
    assert isinstance(again, Injected)
    assert again.operations == ()


@pytest.mark.parametrize("case", INJECTED, ids=[each["case"] for each in INJECTED])
def test_what_was_injected_can_be_taken_out(case: Json) -> None:
    assert uninject(injected(case).pod) == pod_of(case)


def test_a_probe_by_tls_asks_the_proxy_which_asks_what_was_declared() -> None:
    (case,) = (each for each in CASES if each["case"] == "a probe by TLS is made by the proxy")
    spec = injected(case).pod["spec"]
    (app,) = spec["containers"]
    asked = {"port": 4191, "scheme": "HTTP", "path": "/probes/app/livenessProbe"}
    assert app["livenessProbe"] == {"httpGet": asked, "periodSeconds": 7}
    assert app["readinessProbe"] == case["container"]["readinessProbe"]
    variables = {each["name"]: each for each in spec["initContainers"][2]["env"]}
    assert variables["POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    settings = json.loads(variables["POLICYD_PROXY_CONFIG"]["value"])
    assert settings["podAddress"] == "$(POD_IP)"
    liveness, startup = settings["probes"]
    assert liveness == {
        "path": "/probes/app/livenessProbe",
        "port": 8443,
        "timeoutSeconds": 1,
        "httpGet": case["container"]["livenessProbe"]["httpGet"],
    }
    assert (startup["port"], startup["timeoutSeconds"]) == (8443, 9)
    # As the kubelet reads it: `$$` is a `$`.
    assert startup["httpGet"]["httpHeaders"][0]["value"] == "$$(POD_NAME) costs $$$$5"


def test_wh_03_a_probe_that_was_changed_after_injection_is_refused() -> None:
    (case,) = (each for each in CASES if each["case"] == "a probe by TLS is made by the proxy")
    for place, value in (
        (("containers", 0, "livenessProbe", "httpGet", "path"), "/probes/app/startupProbe"),
        (("containers", 0, "name"), "other"),
        (("initContainers", 2, "env", 4, "value"), "[]"),
        (("initContainers", 2, "env", 4, "value"), '{"probes": [{"path": 1}, 2]}'),
    ):
        pod = copy.deepcopy(injected(case).pod)
        at: Any = pod["spec"]
        for part in place[:-1]:
            at = at[part]
        at[place[-1]] = value
        assert isinstance(inject(pod, namespace_of(case), SETTINGS), Refused), place


def test_wh_03_what_the_api_server_fills_in_is_no_forgery() -> None:
    pod = copy.deepcopy(injected({}).pod)
    for container in pod["spec"]["initContainers"]:
        container |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
        container["resources"]["limits"]["cpu"] = "2"
        container["resources"]["requests"]["cpu"] = "0.01"
    pod["spec"]["initContainers"][2]["startupProbe"]["httpGet"]["scheme"] = "HTTP"
    pod["spec"]["initContainers"][2]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
    pod["spec"]["volumes"][0]["projected"]["defaultMode"] = 420
    again = inject(pod, namespace_of({}), SETTINGS)
    assert isinstance(again, Injected)
    assert again.operations == ()


def test_wh_03_a_pod_that_lacks_a_part_gets_it() -> None:
    whole = injected({}).pod
    for field in ("initContainers", "volumes"):
        for index in range(len(whole["spec"][field])):
            partial = copy.deepcopy(whole)
            del partial["spec"][field][index]
            found = inject(partial, namespace_of({}), SETTINGS)
            assert isinstance(found, Injected)
            mended = applied(partial, found.operations)
            by_name = {each["name"]: each for each in mended["spec"][field]}
            assert by_name == {each["name"]: each for each in whole["spec"][field]}
            order = [each["name"] for each in mended["spec"]["initContainers"]]
            assert order == ["policyd-redirect", "policyd-validate", "policyd-proxy"]


def test_wh_03_our_containers_come_first_again() -> None:
    pod = copy.deepcopy(injected({}).pod)
    pod["spec"]["initContainers"].insert(0, {"name": "other-webhook", "image": "other"})
    found = inject(pod, namespace_of({}), SETTINGS)
    assert isinstance(found, Injected)
    names = [each["name"] for each in applied(pod, found.operations)["spec"]["initContainers"]]
    assert names == ["policyd-redirect", "policyd-validate", "policyd-proxy", "other-webhook"]


FORGERIES = {
    "image": "evil",
    "command": ["/bin/sh"],
    "args": ["--allow-everything"],
    "env": [{"name": "POLICYD_PROXY_CONFIG", "value": "{}"}],
    "envFrom": [{"configMapRef": {"name": "mine"}}],
    "restartPolicy": "Never",
    "securityContext": {"privileged": True},
    "volumeMounts": [],
    "lifecycle": {"postStart": {"exec": {"command": ["sh"]}}},
    "resources": {"limits": {"memory": "1Mi"}},
}


@pytest.mark.parametrize("field", FORGERIES)
def test_wh_03_a_proxy_that_differs_in_anything_is_refused(field: str) -> None:
    pod = copy.deepcopy(injected({}).pod)
    pod["spec"]["initContainers"][2][field] = FORGERIES[field]
    found = inject(pod, namespace_of({}), SETTINGS)
    assert isinstance(found, Refused)
    assert found.problems[0].field.startswith(f"spec.initContainers[2].{field}")


def test_a_second_proxy_of_the_same_name_is_refused() -> None:
    pod = copy.deepcopy(injected({}).pod)
    pod["spec"]["initContainers"].append(pod["spec"]["initContainers"][2])
    assert isinstance(inject(pod, namespace_of({}), SETTINGS), Refused)


def test_only_the_redirection_has_a_capability_and_only_that_one() -> None:
    redirect, validate, proxy = injected({}).pod["spec"]["initContainers"]
    assert redirect["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    for container in (validate, proxy):
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] != 0
    for container in (redirect, validate, proxy):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert proxy["securityContext"]["runAsUser"] == 2102


def test_where_the_node_redirects_no_step_has_a_capability() -> None:
    containers = injected({}, Injection(redirect="node")).pod["spec"]["initContainers"]
    assert [each["name"] for each in containers] == ["policyd-validate", "policyd-proxy"]
    assert not any("add" in each["securityContext"]["capabilities"] for each in containers)


def test_the_proxy_is_a_native_sidecar_in_front_of_all_other_steps() -> None:
    case = {"spec": {"initContainers": [{"name": "migrate", "image": "app"}]}}
    containers = injected(case).pod["spec"]["initContainers"]
    assert [each["name"] for each in containers] == [
        "policyd-redirect",
        "policyd-validate",
        "policyd-proxy",
        "migrate",
    ]
    assert containers[2]["restartPolicy"] == "Always"
    assert containers[2]["startupProbe"]["httpGet"] == {"path": "/ready", "port": 4191}


def test_no_container_of_ours_gets_the_token_for_the_api_server() -> None:
    for container in injected({}).pod["spec"]["initContainers"]:
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert mounts["/var/run/secrets/kubernetes.io/serviceaccount"] == "policyd-nothing"


def test_key_and_cache_are_in_memory_and_bounded() -> None:
    volumes = {each["name"]: each for each in injected({}).pod["spec"]["volumes"]}
    assert volumes["policyd-state"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "96Mi"}
    token = volumes["policyd-token"]["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"audience": "policyd-identity", "expirationSeconds": 3600, "path": "token"}


def test_the_settings_refer_to_the_downward_api_and_to_nothing_else() -> None:
    settings = Injection.model_validate({"identityAddress": "$(EVIL):1", "workers": 2})
    proxy = injected({}, settings).pod["spec"]["initContainers"][2]
    text = next(each["value"] for each in proxy["env"] if each["name"] == "POLICYD_PROXY_CONFIG")
    config = json.loads(text)
    assert (config["namespace"], config["serviceAccount"]) == ("$(POD_NAMESPACE)", "$(SERVICE_ACCOUNT)")
    assert config["identity"]["address"] == "$$(EVIL):1"
    assert config["workers"] == 2
    names = [each["name"] for each in proxy["env"]]
    before = set(names[: names.index("POLICYD_PROXY_CONFIG")])
    assert {"POD_NAMESPACE", "POD_NAME", "SERVICE_ACCOUNT"} <= before


def test_a_limit_is_never_under_its_request() -> None:
    asked = {"policyd.dev/proxy-memory-request": "1Gi", "policyd.dev/proxy-cpu-limit": "5m"}
    proxy = injected({"annotations": asked}).pod["spec"]["initContainers"][2]
    assert proxy["resources"] == {
        "requests": {"cpu": "5m", "memory": "1Gi"},
        "limits": {"cpu": "5m", "memory": "1Gi"},
    }


def test_traffic_gets_a_part_of_the_memory() -> None:
    proxy = injected({"annotations": {"policyd.dev/proxy-memory-limit": "1Gi"}}).pod["spec"][
        "initContainers"
    ][2]
    text = next(each["value"] for each in proxy["env"] if each["name"] == "POLICYD_PROXY_CONFIG")
    assert json.loads(text)["memoryMib"] == 256
    assert ProxyResources().memory_limit == "256Mi"


def test_wh_04_an_annotation_is_named_and_never_let_out_of_its_quotes() -> None:
    name = 'policyd.dev/x"]: allowed\n\x1b[31m' + "y" * 1000
    found = outcome_of({"annotations": {name: "v" * 100_000}})
    assert isinstance(found, Refused)
    text = found.problems[0].text
    assert text.startswith('metadata.annotations["policyd.dev/x]: allowed[31myyy')
    assert text.isprintable()
    assert len(text) < 500


def test_wh_05_an_enrolled_pod_is_injected_or_refused() -> None:
    """What the label promises: whatever a pod has, it doesn't run without a proxy."""
    outcomes = [outcome_of({**case, "namespace": ENROLLED}) for case in CASES]
    mirrors = [each for each in outcomes if isinstance(each, Left)]
    assert all(each.reason == "a mirror of a static pod, which can't be changed" for each in mirrors)
