"""What `kubectl` shows of policies while a real policyd runs: each reason once, by data."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.status import reasons
from tests.api import crds, objects
from tests.api.faults import FaultProxy, status
from tests.api.policyd_process import Policyd, install, real_crds, running
from tests.api.rig import ApiServer, RigError
from tests.api.test_faults import ask

CASES = Path(__file__).with_name("status_cases.yaml")
GATEWAY = "gateway.networking.k8s.io"
Json = dict[str, Any]
WRITES = 'policyd_status_writes_total{result="written"}'
SETTLED_SECONDS = 4.0
"""Longer than a look, a write and its echo take: what would be written again is written within it."""


def cases() -> list[Json]:
    found: list[Json] = yaml.safe_load(CASES.read_text())
    return found


@pytest.fixture(scope="module")
def cluster(api: ApiServer) -> Iterator[ApiServer]:
    real_crds(api)
    with crds.lent(
        api,
        crds.lax(GATEWAY, "v1", "HTTPRoute", "httproutes"),
        crds.lax(GATEWAY, "v1", "GRPCRoute", "grpcroutes"),
        crds.lax("policy.linkerd.io", "v1beta3", "Server", "servers"),
        crds.lax("policy.linkerd.io", "v1alpha1", "HTTPLocalRateLimitPolicy", "httplocalratelimitpolicies"),
        crds.lax("policy.linkerd.io", "v1beta1", "ServerAuthorization", "serverauthorizations"),
    ):
        yield api


@pytest.fixture(scope="module")
def policyd(cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policyd]:
    """One replica for all tests of the module that don't end it."""
    namespace = objects.create_namespace(cluster)
    with running(cluster, tmp_path_factory.mktemp("policyd"), namespace) as made:
        made.wait(lambda: made.leads, 90.0)
        yield made


@dataclass(frozen=True)
class Seen:
    """An object as `kubectl get -o json` shows it."""

    body: Json

    @property
    def status(self) -> Json:
        found: Json = self.body.get("status") or {}
        return found

    def condition(self, type_: str) -> Json:
        found = [each for each in self.status.get("conditions", ()) if each["type"] == type_]
        return found[0] if found else {}

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


def get(api: ApiServer, namespace: str, kind: str, name: str) -> Seen:
    place = ["-n", namespace] if not kind.startswith("meshdefaults") else []
    return Seen(json.loads(api.kubectl("get", kind, name, *place, "-o", "json")))


def raw(api: ApiServer, namespace: str, plural: str, name: str) -> Seen:
    return Seen(api.request("GET", f"/apis/policyd.dev/v1alpha1/namespaces/{namespace}/{plural}/{name}"))


def create(api: ApiServer, namespace: str, manifest: Json) -> None:
    """Store an object; what admission rules would refuse was stored before them."""
    body = {**manifest, "metadata": {**manifest["metadata"]}}
    if manifest["kind"] not in {"MeshDefaults", "Namespace"}:
        body["metadata"].setdefault("namespace", namespace)
    api.kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps(body))


@pytest.mark.parametrize("case", cases(), ids=lambda each: each["name"])
def test_each_reason_is_reached(
    cluster: ApiServer, policyd: Policyd, namespace: str, case: Json, request: pytest.FixtureRequest
) -> None:
    case = json.loads(json.dumps(case).replace("NAMESPACE", namespace))
    for manifest in yaml.safe_load_all(case["manifests"]):
        if manifest["kind"] == "MeshDefaults":
            name = manifest["metadata"]["name"]
            request.addfinalizer(partial(cluster.kubectl, "delete", "meshdefaults", name))
        create(cluster, namespace, manifest)
    for expected in case["expect"]:
        kind, name = expected["object"].split("/")
        type_ = expected.get("type", "Accepted")

        def reached(kind: str = kind, name: str = name, type_: str = type_, want: Json = expected) -> bool:
            found = get(cluster, namespace, kind, name)
            said = found.condition(type_)
            if GATEWAY in kind:
                parents = found.status.get("parents") or [{}]
                said = next((c for c in parents[0].get("conditions", ()) if c["type"] == type_), {})
            return (said.get("status"), said.get("reason")) == (str(want["status"]), want["reason"]) and all(
                part in said["message"] for part in want.get("says", [])
            )

        try:
            policyd.wait(reached)
        except AssertionError as error:
            status = get(cluster, namespace, kind, name).status
            raise AssertionError(f"{expected}: {json.dumps(status, indent=1)}") from error


def test_every_reason_of_the_list_has_a_case_or_says_why_not() -> None:
    shown = {each["reason"] for case in cases() for each in case["expect"]}
    listed = {name for name, _, _ in reasons.page_rows()}
    elsewhere = {
        "Enforced": "test_enforced.py",
        "Pending": "test_enforced.py",
        "NotConnected": "test_enforced.py",
        "WithoutProxy": "test_kubectl_get_has_columns_that_mean_something",
        "Denied": "test_events.py",
        "NotEnforced": "test_events.py",
        "ProbeNotExempt": "test_events.py",
        "UnknownAnnotationValue": "test_events.py",
        "IdentityNotOwn": "test_events.py",
        "IdentityDeclaredTwice": "unit: an Event like IdentityNotOwn's",
        "Undecodable": "an API server stores no JSON that isn't",
        "UnknownKind": "an API server stores no kind without a CRD; ours has those that are known",
        "UnknownVersion": "the same for versions",
        "BadMetadata": "an API server checks metadata itself",
        "TooManyProblems": "unit",
        "TooMany": "the CRD's maxItems; unit",
        "TableRefused": "no object is known of which the engine refuses rows; unit",
        "TooManyConditions": "unit: 257 policies",
        "ManyConditions": "unit: 32 policies",
        "ParentUnreadable": "a route's CRD in these tests is lax, Gateway API's isn't; unit",
    }
    assert shown | elsewhere.keys() == listed
    assert not shown & elsewhere.keys()


def server(name: str = "web", port: int = 80, **more: Any) -> Json:
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "port": port, **more}
    return {"apiVersion": "policyd.dev/v1alpha1", "kind": "Server", "metadata": {"name": name}, "spec": spec}


def policy(name: str, account: str = "reader", **more: Any) -> Json:
    refs = [{"kind": "ServiceAccount", "name": account}]
    target = {"group": "policyd.dev", "kind": "Server", "name": "web"}
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name},
        "spec": {"targetRef": target, "requiredAuthenticationRefs": refs, **more},
    }


def accepted(
    api: ApiServer, namespace: str, plural: str, name: str, value: str = "True"
) -> Callable[[], bool]:
    return lambda: raw(api, namespace, plural, name).condition("Accepted").get("status") == value


def test_kubectl_get_has_columns_that_mean_something(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    objects.create_pod(cluster, namespace, name="web", metadata={"labels": {"app": "web"}})
    create(cluster, namespace, server())
    create(cluster, namespace, policy("readers"))
    create(
        cluster, namespace, policy("lost", targetRef={"group": "policyd.dev", "kind": "Server", "name": "no"})
    )
    policyd.wait(accepted(cluster, namespace, "servers", "web"))
    policyd.wait(accepted(cluster, namespace, "authorizationpolicies", "readers"))
    policyd.wait(accepted(cluster, namespace, "authorizationpolicies", "lost", "False"))
    shown = cluster.kubectl("get", "servers.policyd.dev", "-n", namespace)
    assert shown.splitlines()[0].split() == [
        "NAME",
        "PORT",
        "PROTOCOL",
        "DEFAULT",
        "ACCEPTED",
        "ENFORCED",
        "AGE",
    ]
    assert shown.splitlines()[1].split()[:6] == ["web", "80", "unknown", "deny", "True", "0/1"], (
        "a pod without a proxy enforces nothing"
    )
    enforced = raw(cluster, namespace, "servers", "web").condition("Enforced")
    assert (enforced["reason"], enforced["message"]) == (
        "WithoutProxy",
        f"0 of 1 workloads; {namespace}/web has no proxy",
    )
    shown = cluster.kubectl("get", "authorizationpolicies.policyd.dev", "-n", namespace, "-o", "wide")
    rows = {line.split()[0]: line.split() for line in shown.splitlines()}
    assert rows["readers"][1:8] == ["Allow", "Enforce", "Server", "web", "True", "Accepted", "0/1"]
    assert rows["lost"][5:8] == ["False", "TargetNotFound", "0/0"]
    described = cluster.kubectl("describe", "authorizationpolicies.policyd.dev", "lost", "-n", namespace)
    assert "spec.targetRef: server.policyd.dev/" in described
    assert "create it, or correct targetRef" in described


def test_nothing_is_written_again_where_nothing_changes(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    create(cluster, namespace, server())
    create(cluster, namespace, policy("readers"))
    policyd.wait(accepted(cluster, namespace, "servers", "web", "False"))  # nothing selected
    policyd.wait(accepted(cluster, namespace, "authorizationpolicies", "readers"))
    before = (
        raw(cluster, namespace, "servers", "web"),
        raw(cluster, namespace, "authorizationpolicies", "readers"),
    )
    writes = policyd.metric(WRITES)
    for step in range(8):  # something happens elsewhere all the while
        objects.create_account(cluster, namespace, f"somebody-{step}")
        policyd.wait(lambda: True)
        _rest(SETTLED_SECONDS / 8)
    after = (
        raw(cluster, namespace, "servers", "web"),
        raw(cluster, namespace, "authorizationpolicies", "readers"),
    )
    assert [each.version for each in after] == [each.version for each in before]
    assert policyd.metric(WRITES) == writes


def _rest(seconds: float) -> None:
    """Let time pass in which something must not happen."""
    import time  # noqa: PLC0415

    time.sleep(seconds)


def test_a_status_follows_its_object_and_keeps_the_time_since_when(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    create(cluster, namespace, server())
    policyd.wait(accepted(cluster, namespace, "servers", "web", "False"))
    first = raw(cluster, namespace, "servers", "web")
    patch = {"Content-Type": "application/merge-patch+json"}
    path = f"/apis/policyd.dev/v1alpha1/namespaces/{namespace}/servers/web"
    _rest(1.1)  # instants have whole seconds
    cluster.request("PATCH", path, {"spec": {"port": 81}}, **patch)
    policyd.wait(lambda: raw(cluster, namespace, "servers", "web").status["observedGeneration"] == 2)
    second = raw(cluster, namespace, "servers", "web")
    assert second.condition("Accepted")["observedGeneration"] == 2
    assert (
        second.condition("Accepted")["lastTransitionTime"]
        == first.condition("Accepted")["lastTransitionTime"]
    ), "its status is what it was"
    objects.create_pod(cluster, namespace, name="web", metadata={"labels": {"app": "web"}})
    policyd.wait(accepted(cluster, namespace, "servers", "web"))
    third = raw(cluster, namespace, "servers", "web")
    assert (
        third.condition("Accepted")["lastTransitionTime"] > first.condition("Accepted")["lastTransitionTime"]
    )


def test_an_expired_grant_says_so_though_nobody_changes_anything(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    until = (datetime.now(UTC) + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    create(cluster, namespace, server())
    create(cluster, namespace, policy("short", validUntil=until))
    policyd.wait(accepted(cluster, namespace, "authorizationpolicies", "short"))
    policyd.wait(accepted(cluster, namespace, "authorizationpolicies", "short", "False"))
    assert (
        raw(cluster, namespace, "authorizationpolicies", "short").condition("Accepted")["reason"]
        == "GrantExpired"
    )


def test_what_somebody_else_wrote_into_a_status_is_written_over_and_its_other_conditions_stay(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    create(cluster, namespace, server())
    policyd.wait(accepted(cluster, namespace, "servers", "web", "False"))
    forged = {
        "type": "Accepted",
        "status": "True",
        "reason": "Trust",
        "message": "me",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }
    other = {**forged, "type": "Reviewed", "status": "True"}
    body = {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"name": "web", "namespace": namespace},
        "status": {"enforced": "9/9", "conditions": [forged, other]},
    }
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=somebody", "--subresource=status"),
        *("-f", "-"),
        stdin=json.dumps(body),
    )
    assert raw(cluster, namespace, "servers", "web").condition("Accepted")["reason"] == "Trust"
    policyd.wait(accepted(cluster, namespace, "servers", "web", "False"), 60.0)
    found = raw(cluster, namespace, "servers", "web")
    assert found.status["enforced"] == "0/0"
    assert found.condition("Reviewed")["reason"] == "Trust"


def test_a_deleted_object_and_one_made_again_under_its_name(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    failed = policyd.metric('policyd_status_writes_total{result="failed"}')
    for step in range(15):
        create(cluster, namespace, server())
        if step % 3 == 0:
            policyd.wait(accepted(cluster, namespace, "servers", "web", "False"))
        cluster.request("DELETE", f"/apis/policyd.dev/v1alpha1/namespaces/{namespace}/servers/web")
    create(cluster, namespace, server(port=99))
    policyd.wait(
        lambda: (
            "spec.podSelector"
            in raw(cluster, namespace, "servers", "web").condition("Accepted").get("message", "")
        )
    )
    found = raw(cluster, namespace, "servers", "web")
    assert found.status["observedGeneration"] == 1
    assert policyd.metric("policyd_status_failures_total") == 0
    # A write fails until the watch tells that the object is another one, but it is not tried all the time.
    assert policyd.metric('policyd_status_writes_total{result="failed"}') <= failed + 4 * 15
    with pytest.raises(RigError):
        raw(cluster, namespace, "servers", "never")


def test_routes_say_it_by_parent_beside_other_controllers(
    cluster: ApiServer, policyd: Policyd, namespace: str
) -> None:
    parent = {"group": "policyd.dev", "kind": "Server", "name": "web"}
    route = {
        "apiVersion": f"{GATEWAY}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "read"},
        "spec": {
            "parentRefs": [parent, {"name": "gateway"}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
        },
    }
    create(cluster, namespace, route)
    kind = f"httproutes.{GATEWAY}"
    other = {"parentRef": {"name": "gateway"}, "controllerName": "example.org/gateway", "conditions": []}
    path = f"/apis/{GATEWAY}/v1/namespaces/{namespace}/httproutes/read"
    objects.patch_status(cluster, path, {"parents": [other]})

    def reason() -> list[tuple[str, str]]:
        parents = get(cluster, namespace, kind, "read").status.get("parents", [])
        return [
            (each["controllerName"], condition["reason"])
            for each in parents
            for condition in each["conditions"]
            if condition["type"] == "Accepted"
        ]

    policyd.wait(lambda: reason() == [("policyd.dev/policyd", "NoMatchingParent")])
    create(cluster, namespace, server())
    policyd.wait(lambda: reason() == [("policyd.dev/policyd", "Accepted")])
    found = get(cluster, namespace, kind, "read")
    assert other in found.status["parents"], "another controller's entry stays as it is"
    ours = next(each for each in found.status["parents"] if each["controllerName"] == "policyd.dev/policyd")
    assert ours["parentRef"] == parent
    cluster.request(
        "PATCH",
        path,
        {"spec": {"parentRefs": [{"name": "gateway"}]}},
        **{"Content-Type": "application/merge-patch+json"},
    )
    policyd.wait(lambda: get(cluster, namespace, kind, "read").status["parents"] == [other])


async def test_ct_14_writing_that_fails_is_tried_again_and_keeps_nothing_from_being_compiled(
    cluster: ApiServer, tmp_path: Path
) -> None:
    """429, 500 and no answer at all for what is written; the watches go on."""
    namespace = await asyncio.to_thread(objects.create_namespace, cluster)
    proxy = FaultProxy(cluster)
    await proxy.open()
    await asyncio.to_thread(install, cluster, namespace)
    kubeconfig = tmp_path / "kubeconfig"
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.port}"}
    kubeconfig.write_text(yaml.safe_dump(content))
    faults = [500, 429, 503, 409, 500]
    seen: list[int] = []

    def fail(request: Any) -> Any:
        from aiohttp import web  # noqa: PLC0415

        if (
            request.method == "PATCH"
            and "/status" in request.path
            and f"/{namespace}/" in request.path
            and faults
        ):
            code = faults.pop(0)
            seen.append(code)
            headers = {"Retry-After": "1"} if code in {429, 503} else {}
            return web.json_response(status(code, "Trouble"), status=code, headers=headers)
        return None

    proxy.answer = fail
    made = Policyd(tmp_path / "policyd", kubeconfig, cluster.ca, namespace)
    made.start()
    try:
        await asyncio.to_thread(made.wait, lambda: made.leads, 90.0)
        await ask(cluster, "POST", f"/apis/policyd.dev/v1alpha1/namespaces/{namespace}/servers", server())
        await asyncio.to_thread(made.wait, accepted(cluster, namespace, "servers", "web", "False"), 60.0)
        assert faults == [], seen
        assert made.metric("policyd_compile_failed") == 0
        assert made.metric("policyd_status_failures_total") == 0
    finally:
        await asyncio.to_thread(made.stop)
        await proxy.close()
