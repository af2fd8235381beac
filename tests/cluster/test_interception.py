"""What goes around a proxy, before it and past it, with and without an injector: nothing."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.rig import RigError
from tests.cluster import needs
from tests.cluster.cluster import CONTROL_PLANE, Cluster
from tests.cluster.manifests import HTTP, TCP, caller
from tests.cluster.place import GATEWAY
from tests.cluster.policy_cases import OURS

Object = dict[str, Any]
PROXY_PORTS = (4143, 4140, 4191)
URL = f"http://server.shop.svc:{HTTP}"


@pytest.fixture(scope="module")
def closed(shop: Cluster) -> Iterator[Cluster]:
    """The shop, where nothing is allowed but by policies, and these allow `web`."""
    allow = policy(
        "web",
        targetRef={"kind": "Namespace", "name": "shop"},
        requiredAuthenticationRefs=[{"kind": "ServiceAccount", "name": "web"}],
    )
    shop.apply(allow)
    _default(shop, "deny")
    _answered(shop, "bot", 403)
    _answered(shop, "web", 200)
    yield shop
    _default(shop, "audit")
    shop.delete(allow)
    _answered(shop, "bot", 200)


def _answered(cluster: Cluster, who: str, status: int) -> Object:
    answer = cluster.agent("shop", who).ask("until", ask={"do": "get", "url": URL}, status=status, seconds=10)
    assert answer["at"] is not None, answer
    return answer


def test_l4_04_a_plain_client_reaches_no_port_of_the_application_around_its_proxy(closed: Cluster) -> None:
    plain, address = closed.agent("outside", "plain"), closed.pod("shop", "server")["status"]["podIP"]
    assert plain.status(f"http://{address}:{HTTP}/") == 403
    assert plain.status(f"http://{address}:{HTTP}/", headers={"l5d-client-id": "web"}) == 403
    assert plain.ask("tcp", host=address, port=TCP)["status"] is None
    for port in PROXY_PORTS:
        assert plain.status(f"http://{address}:{port}/metrics", timeout=5) in (None, 403), port
    # Not even the node itself, but for what the kubelet asks.
    for path, wanted in (("/probe", 200), ("/", 403), ("/probe?a=b", 403)):
        assert _from_node(f"http://{address}:{HTTP}{path}") == wanted, path


def test_probes_of_the_kubelet_come_from_the_bridge_and_of_the_proxy_itself_too(closed: Cluster) -> None:
    """The kubelet's real source address is the pod's gateway (semantics T6)."""
    address = closed.pod("shop", "server")["status"]["podIP"]
    told = needs.run("ip", "-json", "route", "get", address)
    assert json.loads(told)[0]["prefsrc"] == GATEWAY
    assert _from_node(f"http://{address}:4191/ready") == 200
    assert _from_node(f"http://{address}:4191/metrics") == 403


def test_an_application_cannot_be_reached_before_its_proxy_is_ready(closed: Cluster) -> None:
    """With policyd away a new proxy has no table: the pod isn't ready, and nobody gets in or out."""
    closed.kubectl("scale", "-n", CONTROL_PLANE, "deployment/policyd", "--replicas=0")
    late = caller("shop", "late")
    # Another init container, which starts once the proxy has: it must never come to that.
    spec = late[1]["spec"]["template"]["spec"]
    early = copy.deepcopy(spec["containers"][0])
    spec["initContainers"] = [early | {"name": "early", "command": ["python3", "-c", "print('began')"]}]
    try:
        closed.node.wait("policyd is away", lambda: not _control_plane(closed, "policyd"))
        closed.apply(*late)
        pod = closed.node.wait("its proxy runs", lambda: _proxy_runs(closed, "late"), 60.0)
        address, name = pod["status"]["podIP"], pod["metadata"]["name"]
        plain = closed.agent("outside", "plain")
        for port in (HTTP, TCP, *PROXY_PORTS):
            assert plain.status(f"http://{address}:{port}/", timeout=5) in (None, 503), port
        assert "began" not in closed.logs("shop", name, "early")
    finally:
        closed.kubectl("scale", "-n", CONTROL_PLANE, "deployment/policyd", "--replicas=1")
    closed.rolled_out(CONTROL_PLANE, "policyd")
    closed.rolled_out("shop", "late")
    assert "began" in closed.logs("shop", closed.pod("shop", "late")["metadata"]["name"], "early")
    closed.delete(*late)


def test_wh_05_a_pod_that_could_get_around_its_proxy_is_refused(closed: Cluster) -> None:
    pod = _pod("sly")
    container = pod["spec"]["containers"][0]
    for change, said in (
        ({"hostNetwork": True}, "hostNetwork"),
        ({"securityContext": {"runAsUser": 2102}}, "2102"),
        ({"containers": [container | {"securityContext": {"privileged": True}}]}, "privileged"),
    ):
        with pytest.raises(RigError, match=said):
            closed.apply(pod | {"spec": pod["spec"] | change})


def test_wh_05_without_an_injector_no_pod_of_an_enrolled_namespace_starts(closed: Cluster) -> None:
    """Elsewhere pods start as they are; and what can't be read is stored, and refuses (semantics U)."""
    target = {"kind": "Namespace", "name": "shop"}
    typo = policy("typo", targetRef=target, requiredAuthenticationRefs=[], action="Deny", modus="Audit")
    closed.kubectl("scale", "-n", CONTROL_PLANE, "deployment/injector", "--replicas=0")
    try:
        closed.node.wait("the injector is away", lambda: not _control_plane(closed, "injector"))
        with pytest.raises(RigError, match="failed calling webhook"):
            closed.apply(_pod("unmeshed"))
        closed.apply(_pod("elsewhere", "outside"))
        closed.delete(_pod("elsewhere", "outside"))
        closed.apply(typo)
        record = closed.record("shop", "server", _answered(closed, "web", 403)["decision"])
        assert record["reason"] == "policy_unreadable"
    finally:
        closed.kubectl("scale", "-n", CONTROL_PLANE, "deployment/injector", "--replicas=1")
        closed.delete(typo)
    closed.rolled_out(CONTROL_PLANE, "injector")
    _answered(closed, "web", 200)


def policy(name: str, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": OURS, "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def _default(cluster: Cluster, access: str) -> None:
    change = json.dumps({"spec": {"defaultAccess": access}})
    cluster.kubectl("patch", "meshdefaults", "default", "--type=merge", "-p", change)


def _control_plane(cluster: Cluster, component: str) -> list[Object]:
    selector = f"app.kubernetes.io/component={component}"
    found: list[Object] = cluster.get("pods", "-n", CONTROL_PLANE, "-l", selector)["items"]
    return found


def _pod(name: str, space: str = "shop") -> Object:
    [_, deployment] = caller(space, name)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space},
        "spec": deployment["spec"]["template"]["spec"] | {"serviceAccountName": "default"},
    }


def _proxy_runs(cluster: Cluster, app: str) -> Object | None:
    pod = cluster.pod("shop", app)
    for each in pod["status"].get("initContainerStatuses", ()):
        if each["name"] == "policyd-proxy" and "running" in each["state"]:
            return pod
    return None


def _from_node(url: str) -> int | None:
    """Return what the node itself is answered, as its kubelet would be."""
    done = subprocess.run(
        ["curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}", url],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(done.stdout) or None
