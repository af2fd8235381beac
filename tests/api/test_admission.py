"""The webhooks, called by a real API server: what it stores is what they say."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from policyd.serving.certificate import packed, unpacked, upkeep
from tests.api import objects
from tests.api.injector_process import JUDGED, LABEL, Injector, running, until
from tests.api.rig import ApiServer, RigError

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def injector(api: ApiServer) -> Iterator[Injector]:
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        api.apply(file)
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    with running(api) as found:
        yield found


@pytest.fixture
def enrolled(api: ApiServer, injector: Injector) -> str:
    """A namespace in which every pod has a proxy, and policies are judged."""
    return objects.create_namespace(api, labels={LABEL: "enabled", JUDGED: "yes"})


def created(api: ApiServer, namespace: str, spec: Json | None = None, **metadata: Any) -> Json:
    body = {
        "metadata": {"generateName": "app-", **metadata},
        "spec": {"containers": [{"name": "app", "image": "app"}], **(spec or {})},
    }
    made: Json = api.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    return made


def test_a_pod_of_an_enrolled_namespace_is_stored_with_its_proxy(api: ApiServer, enrolled: str) -> None:
    pod = created(api, enrolled)
    init = pod["spec"]["initContainers"]
    assert [each["name"] for each in init] == ["policyd-redirect", "policyd-validate", "policyd-proxy"]
    assert init[2]["restartPolicy"] == "Always"
    assert init[2]["image"] == "localhost/policyd-proxy:test"
    names = [each["name"] for each in pod["spec"]["volumes"]]
    assert names.count("policyd-state") == 1
    # The API server gives its own token to every container that has nothing there.
    for container in init:
        mounted = [
            each["name"] for each in container["volumeMounts"] if "serviceaccount" in each["mountPath"]
        ]
        assert mounted == ["policyd-nothing"]


def test_wh_03_what_the_api_server_completed_is_no_forgery(
    api: ApiServer, injector: Injector, enrolled: str
) -> None:
    """A second webhook sees the injected pod with the server's defaults, and finds nothing to do."""
    uids = {each["uid"] for each in injector.events if each.get("resource") == "/pods"}
    created(api, enrolled)
    seen = [
        each
        for each in injector.events
        if each.get("resource") == "/pods" and each["uid"] not in uids and each["event"] == "admitted"
    ]
    assert next(each["patched"] for each in seen) is True
    assert len(seen) >= 2
    assert not any(each["patched"] for each in seen[1:])


def test_wh_03_a_pod_made_of_an_injected_one_is_stored_as_it_is(api: ApiServer, enrolled: str) -> None:
    """As `kubectl get -o yaml` gives it and somebody applies it again, less what names the pod."""
    first = created(api, enrolled)
    spec = {key: value for key, value in first["spec"].items() if key not in {"nodeName"}}
    again = created(api, enrolled, spec, annotations=first["metadata"]["annotations"])
    assert again["spec"]["initContainers"] == first["spec"]["initContainers"]


def test_wh_03_a_forged_proxy_is_refused(api: ApiServer, enrolled: str) -> None:
    forged = {"initContainers": [{"name": "policyd-proxy", "image": "evil", "restartPolicy": "Always"}]}
    with pytest.raises(RigError, match=r"spec.initContainers\[0\].image: 'evil': the injector writes"):
        created(api, enrolled, forged)


def test_wh_05_a_limit_range_changes_nothing(api: ApiServer, enrolled: str) -> None:
    """It gives limits to containers that have none, ours among them, before webhooks are asked again."""
    limit = {"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "20m"}}
    path = f"/api/v1/namespaces/{enrolled}/limitranges"
    api.request("POST", path, {"metadata": {"name": "limits"}, "spec": {"limits": [limit]}})
    assert created(api, enrolled)["spec"]["initContainers"][2]["name"] == "policyd-proxy"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork: true"),
        ({"shareProcessNamespace": True}, "spec.shareProcessNamespace: true"),
        ({"securityContext": {"runAsUser": 2102}}, "spec.securityContext.runAsUser: 2102"),
        (
            {
                "containers": [
                    {
                        "name": "app",
                        "image": "app",
                        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}},
                    }
                ]
            },
            "capabilities.add.0.: NET_ADMIN",
        ),
    ],
    ids=["host network", "one process namespace", "the proxy's user", "NET_ADMIN"],
)
def test_wh_05_who_could_get_around_the_proxy_is_refused(
    api: ApiServer, enrolled: str, spec: Json, field: str
) -> None:
    with pytest.raises(RigError, match=field):
        created(api, enrolled, spec)


def test_wh_05_a_debugging_container_as_the_proxys_user_is_refused(api: ApiServer, enrolled: str) -> None:
    pod = created(api, enrolled)["metadata"]["name"]
    path = f"/api/v1/namespaces/{enrolled}/pods/{pod}/ephemeralcontainers"
    merge = {"Content-Type": "application/strategic-merge-patch+json"}

    def debug(name: str, **more: Any) -> Any:
        added = {"name": name, "image": "tools", **more}
        return api.request("PATCH", path, {"spec": {"ephemeralContainers": [added]}}, **merge)

    with pytest.raises(RigError, match="the proxy's own user"):
        debug("evil", securityContext={"runAsUser": 2102})
    debug("honest")


def test_a_pod_cannot_leave_unless_its_namespace_lets_it(api: ApiServer, injector: Injector) -> None:
    strict = objects.create_namespace(api, labels={LABEL: "enabled"})
    off = {"policyd.dev/inject": "disabled"}
    with pytest.raises(RigError, match=r"only its label policyd\.dev/opt-out=allowed"):
        created(api, strict, annotations=off)
    loose = objects.create_namespace(api, labels={LABEL: "enabled", "policyd.dev/opt-out": "allowed"})
    until(lambda: injected_or_refused(api, loose, off) is False)


def injected_or_refused(api: ApiServer, namespace: str, annotations: dict[str, str]) -> bool | None:
    """None where the pod is refused: the watch may not have told of the namespace yet."""
    try:
        return "initContainers" in created(api, namespace, annotations=annotations)["spec"]
    except RigError:
        return None


def test_elsewhere_a_pod_asks_by_annotation(api: ApiServer, injector: Injector) -> None:
    namespace = objects.create_namespace(api, labels={"policyd.test/asking": "yes"})
    ask = {"linkerd.io/inject": "enabled"}
    until(lambda: injected_or_refused(api, namespace, ask) is True)
    assert "initContainers" not in created(api, namespace)["spec"]


def test_a_namespace_that_is_enrolled_now_is_enrolled_at_once(api: ApiServer, injector: Injector) -> None:
    """No pod slips through between the label and our watch of it."""
    for _ in range(10):
        namespace = objects.create_namespace(api, labels={LABEL: "enabled"})
        assert injected_or_refused(api, namespace, {}) in {True, None}


def server(namespace: str, **spec: Any) -> Json:
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"podSelector": {}, "port": 8080, **spec},
    }


def test_wh_06_a_policy_that_cannot_be_read_is_refused_with_field_value_and_what_was_expected(
    api: ApiServer, enrolled: str
) -> None:
    policy: dict[str, Any] = {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "web", "namespace": enrolled},
        "spec": {
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": "web"},
            "requiredAuthenticationRefs": [],
            "when": [{"path": {"prefix": "/a/../b"}}],
        },
    }
    expected = r"spec.when\[0\].path.prefix: '/a/../b' is no path in normal form"
    with pytest.raises(RigError, match=expected):
        api.apply(policy)
    policy["spec"] |= {"when": [{"path": {"prefix": "/b"}}], "wehn": []}
    with pytest.raises(RigError, match=r"spec.wehn: unknown field 'wehn'.*did you mean when"):
        api.apply(policy)
    del policy["spec"]["wehn"]
    api.apply(policy)  # its Server isn't there, which is no reason


def test_an_unreadable_object_that_is_stored_can_be_labelled_and_deleted(
    api: ApiServer, injector: Injector
) -> None:
    namespace = objects.create_namespace(api)
    api.apply(server(namespace, podSelector={"matchLabels": {"a": "b"}, "wat": 1}))  # nobody judges here
    api.kubectl("label", "namespace", namespace, f"{JUDGED}=yes")
    api.kubectl("label", "-n", namespace, "servers.policyd.dev/web", "a=b")
    with pytest.raises(RigError, match="wat"):
        api.apply(server(namespace, port=1, podSelector={"wat": 2}))
    api.kubectl("delete", "-n", namespace, "servers.policyd.dev/web", "--timeout=20s")


def test_wh_08_a_dry_run_stores_nothing_and_is_called_one(
    api: ApiServer, injector: Injector, enrolled: str
) -> None:
    body = {"metadata": {"name": "dry"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    made = api.request("POST", f"/api/v1/namespaces/{enrolled}/pods?dryRun=All", body)
    assert made["spec"]["initContainers"][2]["name"] == "policyd-proxy"
    told = [each["event"] for each in injector.events if each.get("namespace") == enrolled]
    assert set(told) == {"dry_run"}
    assert api.request("GET", f"/api/v1/namespaces/{enrolled}/pods")["items"] == []


def secret(injector: Injector) -> tuple[str, dict[str, bytes]]:
    path = f"/api/v1/namespaces/{injector.namespace}/secrets/policyd-injector-tls"
    data = injector.api.request("GET", path)["data"]
    return path, {name: b64decode(part) for name, part in data.items()}


def test_wh_07_a_wiped_bundle_is_written_again(api: ApiServer, injector: Injector, enrolled: str) -> None:
    """Whoever applies the configurations anew takes the bundle away."""
    before = injector.bundles()
    path = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{injector.name}"
    wiped = [{"op": "remove", "path": f"/webhooks/{index}/clientConfig/caBundle"} for index in range(3)]
    api.request("PATCH", path, wiped, **{"Content-Type": "application/json-patch+json"})
    until(lambda: injector.bundles() == before)
    created(api, enrolled)


def test_wh_07_the_certificate_is_renewed_without_a_failed_admission(
    api: ApiServer, injector: Injector, enrolled: str
) -> None:
    """Another replica renews the leaf, then the authority; pods are created all the while."""
    path, parts = secret(injector)
    material = unpacked(parts)
    assert material is not None
    names = ("policyd-injector.test", "127.0.0.1")
    renewed = upkeep(material, names, datetime.now(UTC))
    assert renewed.leaf != material.leaf
    data = {name: b64encode(part).decode() for name, part in packed(renewed).items()}
    merge = {"Content-Type": "application/merge-patch+json"}
    shown = sum(each["event"] == "certificate_shown" for each in injector.events)
    api.request("PATCH", path, {"data": data}, **merge)
    for _ in range(20):
        created(api, enrolled)
    # Its names aren't the process's own, so it makes a third.
    until(lambda: sum(each["event"] == "certificate_shown" for each in injector.events) >= shown + 2)
    for _ in range(5):
        created(api, enrolled)


def test_wh_07_a_replica_that_was_killed_comes_back_with_the_same_certificate(api: ApiServer) -> None:
    with running(api) as first:
        namespace = objects.create_namespace(api, labels={LABEL: "enabled"})
        until(lambda: injected_or_refused(api, namespace, {}))
        _, before = secret(first)
        first.kill()
        first.start()
        _, after = secret(first)
        assert before == after
        until(lambda: injected_or_refused(api, namespace, {}))


def test_a_secret_that_somebody_broke_is_made_anew(api: ApiServer, injector: Injector, enrolled: str) -> None:
    path, _ = secret(injector)
    merge = {"Content-Type": "application/merge-patch+json"}
    before = injector.bundles()
    api.request("PATCH", path, {"data": {"tls.key": b64encode(b"junk").decode()}}, **merge)
    until(lambda: unpacked(secret(injector)[1]) is not None)
    until(lambda: len(set(injector.bundles())) == 1 and injector.bundles() != before)
    until(lambda: injected_or_refused(api, enrolled, {}))


def test_it_ends_when_asked(api: ApiServer) -> None:
    with running(api) as found:
        found.stop()


def test_the_next_authority_is_trusted_before_it_signs() -> None:
    now = datetime.now(UTC)
    made = upkeep(None, ("127.0.0.1",), now)
    due = upkeep(made, ("127.0.0.1",), now + timedelta(days=366))
    assert due.following is not None
    assert due.following.certificate in due.bundle
    assert json.dumps(sorted(packed(due))) == json.dumps(sorted(packed(made)))
