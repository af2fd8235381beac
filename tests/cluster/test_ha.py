"""Two replicas of each component, and PostgreSQL: one of each may go at any time, and nobody notices."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.rig import RigError
from tests.cluster import manifests
from tests.cluster.cluster import COMPONENTS, CONTROL_PLANE, Cluster, ready
from tests.cluster.database import Database, running
from tests.cluster.figures import figures
from tests.cluster.load import CONNECTED_SECONDS, connected, under_load
from tests.cluster.manifests import HTTP
from tests.cluster.node import Node
from tests.cluster.policy_cases import OURS
from tests.cluster.report import note

SECRET = "policyd-audit-database"
METRICS_PORT = 9990
ENFORCED_SECONDS = 15.0
"""Loose: what it takes is noted. A proxy whose policyd went tries another within 15 s."""
LED_SECONDS = 45.0
"""A Lease that nobody gave back is waited for 15 s."""
DELIVERED_SECONDS = 20.0
DENIALS = 20
ANSWERS = 10
"""How often each replica has to have answered."""
MOST_QUESTIONS = 40
PAUSE_SECONDS = 0.02
CLOSED = "/closed"
DENIALS_PATH = "/apis/audit.policyd.dev/v1alpha1/namespaces/shop/denials"
Object = dict[str, Any]


@pytest.fixture(scope="session")
def database(node: Node) -> Iterator[Database]:
    """As long as the cluster: policyd needs it to its end."""
    with running(node) as found:
        yield found


@pytest.fixture(scope="module")
def twice(guarded: Cluster, database: Database) -> Cluster:
    """From one replica to two and from a store in the pod to PostgreSQL, as the documents say, under load."""
    verified = "sslmode=verify-full sslrootcert=/etc/policyd/audit/root.crt"
    guarded.kubectl(
        *("create", "secret", "generic", SECRET, "-n", CONTROL_PLANE),
        f"--from-file=root.crt={database.authority}",
        f"--from-literal=connection={database.connection} {verified}",
    )
    settings = ("ha=true", "audit.kind=postgres", f"audit.secret={SECRET}")
    words = [word for each in settings for word in ("--set", each)]
    began = time.monotonic()
    with under_load(guarded, "from one replica to two"):
        guarded.kubectl("apply", "-f", "-", stdin=guarded.policyctl("upgrade", *words))
        guarded.rolled_out(CONTROL_PLANE)
    note(f"from one replica to two, with PostgreSQL: {time.monotonic() - began:.0f} s")
    return guarded


def replicas(cluster: Cluster, component: str) -> list[Object]:
    """Return a component's pods that aren't ending."""
    found = cluster.pods(CONTROL_PLANE)
    return [each for each in found if each["metadata"]["labels"]["app.kubernetes.io/component"] == component]


def name_of(pod: Object) -> str:
    found: str = pod["metadata"]["name"]
    return found


def leader(cluster: Cluster) -> Object | None:
    """Return the pod of policyd that holds the Lease; None while nobody does."""
    holder = cluster.get("lease", "-n", CONTROL_PLANE, "policyd")["spec"].get("holderIdentity") or ""
    found = [each for each in replicas(cluster, "policyd") if holder.startswith(f"{name_of(each)}-")]
    return found[0] if found else None


def whole(cluster: Cluster) -> None:
    """Wait until two of each are ready, and each budget lets one go."""

    def allowed() -> bool:
        budgets = cluster.get("poddisruptionbudgets", "-n", CONTROL_PLANE)["items"]
        told = {
            name_of(each): each["status"].get("disruptionsAllowed", 0)
            for each in budgets
            if each["status"].get("observedGeneration") == each["metadata"]["generation"]
        }
        return told == dict.fromkeys(COMPONENTS, 1)

    cluster.rolled_out(CONTROL_PLANE)
    cluster.node.wait("each budget lets one go", allowed, 60.0)


@contextlib.contextmanager
def answered(what: dict[str, Callable[[], object]]) -> Iterator[None]:
    """Ask all of this again and again meanwhile; every question has to be answered."""
    stop, counts, faults = threading.Event(), dict.fromkeys(what, 0), list[str]()

    def work(name: str) -> None:
        while not stop.wait(PAUSE_SECONDS):
            try:
                assert what[name](), "an answer that isn't right"
                counts[name] += 1
            except (RigError, OSError, AssertionError) as error:
                faults.append(f"{name} at {time.time():.2f}: {error}")

    threads = [threading.Thread(target=work, args=(name,)) for name in what]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    note(f"meanwhile: {counts}")
    assert not faults, "\n".join(faults[:5])
    assert all(counts.values())


def questions(cluster: Cluster) -> dict[str, Callable[[], object]]:
    """What the API server asks of injector and policyd, and that whoever dials a Service gets through."""
    container = {"name": "app", "image": manifests.IMAGE}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "namespace": "shop"},
        "spec": {"containers": [container]},
    }

    def made() -> bool:
        answer = cluster.node.request("POST", "/api/v1/namespaces/shop/pods?dryRun=All", pod)
        return any(each["name"] == "policyd-proxy" for each in answer["spec"].get("initContainers", ()))

    return {
        "pods made": made,
        "denials read": lambda: "items" in cluster.node.request("GET", f"{DENIALS_PATH}?limit=1"),
        **{f"{each} dialled": _dialled(cluster, each) for each in COMPONENTS},
    }


def _dialled(cluster: Cluster, component: str) -> Callable[[], bool]:
    """Return what connects to a Service from a pod, as proxies do, and an API server of another network."""
    spec = cluster.get("service", "-n", CONTROL_PLANE, component)["spec"]
    caller = cluster.agent("outside", "plain")

    def dialled() -> bool:
        answer = caller.ask("tcp", host=spec["clusterIP"], port=spec["ports"][0]["port"], send="hello")
        if answer.get("error", "").startswith(("ConnectionRefused", "TimeoutError", "OSError")):
            raise RigError(answer["error"])
        return True  # taken; that it is no TLS is another matter

    return dialled


def closed() -> Object:
    """A Deny of one path, for everybody."""
    return {
        "apiVersion": OURS,
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "closed", "namespace": "shop"},
        "spec": {
            "action": "Deny",
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": "http"},
            "requiredAuthenticationRefs": [],
            "when": [{"path": {"prefix": CLOSED}}],
        },
    }


def felt_everywhere(cluster: Cluster, status: int) -> float:
    """Wait until every server answers `web` so on the closed path; returns when, in seconds since 1970."""
    web, times = cluster.agent("shop", "web"), list[float]()
    for pod in cluster.pods("shop", "server"):
        asked = {"do": "get", "url": f"http://{pod['status']['podIP']}:{HTTP}{CLOSED}", "timeout": 5.0}
        answer = web.ask("until", ask=asked, status=status, seconds=ENFORCED_SECONDS)
        assert answer["at"] is not None, answer
        times.append(answer["at"])
    return max(times)


def test_both_replicas_run_on_one_node_and_budgets_let_one_of_each_go(twice: Cluster) -> None:
    whole(twice)
    for component in COMPONENTS:
        assert [ready(each) for each in replicas(twice, component)] == [True, True], component
    told = json.loads(twice.policyctl("check", "-o", "json"))
    assert not [each for each in told["checks"] if each["result"] != "ok"]


@pytest.mark.promise("P-1")
def test_p_1_while_the_leader_is_dead_policy_is_enforced_and_another_leads(twice: Cluster) -> None:
    """Killed without a word, so that it gives nothing back: its Lease, its streams, its addresses."""
    whole(twice)
    first = leader(twice)
    assert first is not None
    policy = closed()
    assert felt_everywhere(twice, 200)
    with under_load(twice, "the leader of two policyd killed"):
        began = time.time()
        _kill(twice, first)
        at = twice.apply(policy)
        enforced = felt_everywhere(twice, 403) - at
        twice.apply(*manifests.caller("shop", "late"))
        led = twice.node.wait("another leads", lambda: leader(twice), LED_SECONDS)
        taken = time.time() - began
        assert name_of(led) != name_of(first)
        twice.node.wait("the status is written", lambda: _enforced(twice), LED_SECONDS)
        written = time.time() - began
        twice.rolled_out("shop", "late")
        whole(twice)
    note(
        f"leader killed: a new policy is enforced after {enforced:.2f} s, another leads after {taken:.0f} s, "
        f"statuses are written after {written:.0f} s"
    )
    twice.delete(policy, *manifests.caller("shop", "late"))
    assert felt_everywhere(twice, 200)


@pytest.mark.promise("P-1")
@pytest.mark.parametrize("component", ["identity", "injector"])
def test_p_1_of_two_replicas_one_is_deleted_and_pods_go_on_being_made(twice: Cluster, component: str) -> None:
    whole(twice)
    late = manifests.caller("shop", f"late-{component}")
    with under_load(twice, f"one of two {component} deleted"), answered(questions(twice)):
        twice.kubectl(
            "delete", "pod", "-n", CONTROL_PLANE, name_of(replicas(twice, component)[0]), "--wait=false"
        )
        began = time.monotonic()
        twice.apply(*late)
        twice.rolled_out("shop", f"late-{component}")
        note(f"one of two {component} deleted: a new pod is ready after {time.monotonic() - began:.0f} s")
        whole(twice)
    twice.delete(*late)


def test_one_of_each_is_evicted_and_the_other_at_the_same_moment_is_not(twice: Cluster) -> None:
    """As `kubectl drain` does it. The leader is among those that go, and gives its Lease back."""
    whole(twice)
    first = leader(twice)
    assert first is not None
    with under_load(twice, "one of each evicted"), answered(questions(twice)):
        for component in COMPONENTS:
            one, other = sorted(replicas(twice, component), key=lambda each: name_of(each) != name_of(first))
            _evict(twice, one)
            with pytest.raises(RigError, match=r": 429 .*disruption budget"):
                _evict(twice, other)
        began = time.monotonic()

        def led() -> bool:
            now = leader(twice)
            return now is not None and name_of(now) != name_of(first)

        twice.node.wait("another leads", led, LED_SECONDS)
        note(f"leader evicted: another leads after {time.monotonic() - began:.0f} s")
        whole(twice)


def test_a_denial_is_found_whichever_replica_took_it_and_after_that_is_gone(twice: Cluster) -> None:
    whole(twice)
    twice.node.wait("all proxies are connected to policyd", lambda: connected(twice), CONNECTED_SECONDS)
    taker, first = _denied(twice)
    _found_by_all(twice, first)
    twice.kubectl("delete", "pod", "-n", CONTROL_PLANE, taker)
    whole(twice)
    twice.node.wait("all proxies are connected to policyd", lambda: connected(twice), CONNECTED_SECONDS)
    other, second = _denied(twice)
    assert other != taker
    _found_by_all(twice, first, second)


def _kill(cluster: Cluster, pod: Object) -> None:
    [status] = pod["status"]["containerStatuses"]
    cluster.node.ctr("task", "kill", "-s", "KILL", status["containerID"].removeprefix("containerd://"))
    words = ("delete", "pod", "-n", CONTROL_PLANE, name_of(pod), "--force", "--grace-period=0")
    cluster.kubectl(*words)


def _evict(cluster: Cluster, pod: Object) -> None:
    """Ask for it as `kubectl drain` does; raises RigError where it is refused."""
    wanted = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name_of(pod), "namespace": CONTROL_PLANE},
    }
    path = f"/api/v1/namespaces/{CONTROL_PLANE}/pods/{name_of(pod)}/eviction"
    cluster.node.request("POST", path, wanted)


def _enforced(cluster: Cluster) -> bool:
    """Whether the status of what was applied last says that all pods enforce it."""
    status = cluster.get("authorizationpolicy.policyd.dev", "-n", "shop", "closed").get("status", {})
    true = {each["type"] for each in status.get("conditions", ()) if each["status"] == "True"}
    return {"Accepted", "Enforced"} <= true and status.get("enforced") == "1/1"


def _denied(cluster: Cluster) -> tuple[str, str]:
    """Have a server refuse some requests; returns which policyd took the denials, and the last one's id."""

    def records() -> dict[str, float]:
        return {
            name_of(each): figures(each, METRICS_PORT)["policyd_audit_records_total"]
            for each in replicas(cluster, "policyd")
        }

    address = cluster.pods("shop", "server")[0]["status"]["podIP"]
    bot, before = cluster.agent("shop", "bot"), records()
    answers = [bot.get(f"http://{address}:{HTTP}/denied") for _ in range(DENIALS)]
    assert {each["status"] for each in answers} == {403}

    def takers() -> list[str]:
        return [name for name, count in records().items() if count - before.get(name, 0.0) >= DENIALS]

    [taker] = cluster.node.wait("the denials are delivered", takers, DELIVERED_SECONDS)
    return taker, answers[-1]["decision"]


def _found_by_all(cluster: Cluster, *ids: str) -> None:
    """Ask with both commands, and what they ask until each replica has answered; all has to be there."""
    for each in ids:
        told = json.loads(cluster.policyctl("denials", "-n", "shop", "--list", "-o", "json"))
        assert set(ids) <= {found["id"] for found in told["denials"] if "id" in found}
        why = json.loads(cluster.policyctl("explain", each, "-n", "shop", "-o", "json", code=1))
        assert (why["id"], why["reason"]) == (each, "no_matching_rule")

    def answers() -> dict[str, float]:
        return {
            name_of(each): figures(each, METRICS_PORT)["policyd_audit_api_answers_total"]
            for each in replicas(cluster, "policyd")
        }

    before, asked = answers(), 0
    while any(count - before[name] < ANSWERS for name, count in answers().items()):
        assert asked < MOST_QUESTIONS, "one replica never answers"
        asked += 1
        told = cluster.node.request("GET", f"{DENIALS_PATH}?limit=100")
        assert set(ids) <= {each["metadata"]["name"] for each in told["items"]}
        for each in ids:
            why = cluster.node.request("GET", f"{DENIALS_PATH}/{each}/explanation")
            assert why["explanation"]["reason"] == "no_matching_rule"
    note(f"{len(ids)} denials found by {asked} lists and explanations of each, from {len(before)} replicas")
