"""What statuses are to say of a world: the findings of `check`, and who has acknowledged which table."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policyd.compile.compiler import Compiler
from policyd.compile.report import report
from policyd.index.world import World
from policyd.model.names import ObjectKey
from policyd.resources.base import Document
from policyd.resources.read import read
from policyd.status import picture as pictures
from policyd.status.acks import NOTHING, Acks, pod_id, table_id
from policyd.status.conditions import Wanted, text_of
from policyd.status.picture import take
from policyd.status.route_parents import CONTROLLER, MOST_PARENTS, parents_now
from policyd.status.writer import WantedParents

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SERVER = ObjectKey("policyd.dev", "Server", "books", "http")
POLICY = ObjectKey("policyd.dev", "AuthorizationPolicy", "books", "p")
DEFAULTS = ObjectKey("policyd.dev", "MeshDefaults", "", "default")
ROUTE = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "books", "r")


def manifest(
    kind: str, name: str, spec: Any, api: str = "policyd.dev/v1alpha1", **meta: Any
) -> dict[str, Any]:
    namespace = {} if kind == "MeshDefaults" else {"namespace": "books"}
    metadata = {"name": name, "uid": f"u-{name}", "generation": 3, **namespace, **meta}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def pod(name: str, *, meshed: bool = True, phase: str = "Running", owner: str = "web", **meta: Any) -> Any:
    containers = [{"name": "app"}, *([{"name": "policyd-proxy"}] if meshed else [])]
    owners = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": "d", "controller": True}]
    made = manifest(
        "Pod", name, {"containers": containers}, "v1", labels={"app": owner}, ownerReferences=owners, **meta
    )
    return made | {"status": {"phase": phase}}


SELECTS = manifest("Server", "http", {"podSelector": {}, "port": 80})


def compiler(*manifests: dict[str, Any]) -> Compiler:
    world = World()
    for each in manifests:
        found = read(Document(json.loads(json.dumps(each))))
        assert found is not None
        world.apply([(found.key, found)])
    return Compiler(world)


def acked(made: Compiler, *names: str) -> dict[str, frozenset[str]]:
    """Say that these pods have acknowledged their newest tables."""
    found = {}
    for name in names:
        table = made.table_of_member(ObjectKey("", "Pod", "books", name))
        assert table is not None
        found[pod_id(f"u-{name}")] = frozenset({table_id(table.version)})
    return found


async def wanted(made: Compiler, acks: Acks, key: ObjectKey = SERVER) -> Wanted:
    found = (await take(made, acks, NOW)).wanted[key]
    assert isinstance(found, Wanted)
    return found


async def enforced(made: Compiler, acks: Acks, key: ObjectKey = SERVER) -> tuple[str, str, str]:
    found = (await wanted(made, acks, key)).enforcement
    assert found is not None
    return f"{found.enforcing}/{found.workloads}", found.verdict.reason, found.verdict.message


async def test_a_workload_enforces_when_all_that_runs_of_it_has_acknowledged() -> None:
    made = compiler(SELECTS, pod("a"), pod("b"), pod("c", owner="shop"), pod("done", phase="Succeeded"))
    all_of_them = acked(made, "a", "b", "c")
    assert (await enforced(made, all_of_them))[:2] == ("2/2", "Enforced")
    assert (await enforced(made, acked(made, "a", "c")))[:2] == ("1/2", "NotConnected")
    assert "books/b isn't connected" in (await enforced(made, acked(made, "a", "c")))[2]
    behind = {**all_of_them, pod_id("u-b"): frozenset({"0" * 24})}
    assert (await enforced(made, behind))[:2] == ("1/2", "Pending")
    silent = {**all_of_them, pod_id("u-b"): frozenset({NOTHING})}
    assert (await enforced(made, silent))[:2] == ("1/2", "Pending")
    disputed = {**all_of_them, pod_id("u-b"): all_of_them[pod_id("u-b")] | {"0" * 24}}
    assert (await enforced(made, disputed))[0] == "1/2", "replicas that disagree are not believed"


async def test_a_pod_without_a_proxy_is_named_first_and_its_workload_enforces_nothing() -> None:
    many = [pod(f"p{n}") for n in range(9)]
    made = compiler(SELECTS, pod("bare", meshed=False), *many)
    count, reason, message = await enforced(made, acked(made, "bare"))
    assert (count, reason) == ("0/1", "WithoutProxy")
    assert message.startswith("0 of 1 workloads; books/bare has no proxy, books/p0 isn't connected")
    assert message.endswith("and 5 more")


async def test_what_does_not_run_or_is_being_deleted_is_not_waited_for() -> None:
    made = compiler(SELECTS, pod("a", phase="Pending"), pod("b", deletionTimestamp="2026-01-01T00:00:00Z"))
    assert (await enforced(made, {}))[:2] == ("0/0", "NoWorkload")


async def test_mesh_defaults_concern_every_workload_and_an_allow_that_grants_nothing_none() -> None:
    refs = [{"group": "policyd.dev", "kind": "NetworkAuthentication", "name": "no"}]
    target = {"group": "policyd.dev", "kind": "Server", "name": "http"}
    unreadable = manifest(
        "AuthorizationPolicy", "p", {"targetRef": target, "requiredAuthenticationRef": refs}
    )
    made = compiler(SELECTS, pod("a"), manifest("MeshDefaults", "default", {}), unreadable)
    assert (await enforced(made, acked(made, "a"), DEFAULTS))[0] == "1/1"
    assert (await enforced(made, acked(made, "a"), POLICY))[0] == "0/0"


async def test_conditions_say_what_check_prints_no_more_and_no_less() -> None:
    made = compiler(
        SELECTS,
        manifest("Server", "same", {"podSelector": {}, "port": 80}),
        manifest("Server", "odd", {"podSelector": {}, "port": 81, "acessPolicy": "deny"}),
        manifest(
            "AuthorizationPolicy",
            "p",
            {
                "targetRef": {"kind": "Namespace", "name": "books"},
                "requiredAuthenticationRefs": [],
                "when": [{"path": {"prefix": "/a"}}],
            },
        ),
        pod("a", annotations={"policyd.dev/default-access": "maybe"}),
    )
    picture = await take(made, {}, NOW)
    told = {text_of(each) for each in picture.findings}
    for want in picture.wanted.values():
        assert isinstance(want, Wanted)
        told |= {
            line for each in want.verdicts for line in each.message.split("\n") if each.reason != "Accepted"
        }
    assert told == {text_of(each) for each in report(made, NOW)}
    assert told


async def test_a_pod_whose_owner_is_known_is_not_told_of_beside_it() -> None:
    annotations = {"policyd.dev/default-access": "maybe"}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": []}}
    owner = manifest("Deployment", "web", {"template": template}, "apps/v1")
    made = compiler(
        owner, pod("a", annotations=annotations), pod("lone", owner="gone", annotations=annotations)
    )
    found = {each.key.text for each in (await take(made, {}, NOW)).findings if each.key}
    assert found == {"deployment.apps/books/web", "pod/books/lone"}


async def test_the_next_end_of_a_grant_is_waited_for() -> None:
    def until(name: str, hours: int) -> dict[str, Any]:
        at = (NOW + timedelta(hours=hours)).isoformat()
        spec = {
            "targetRef": {"kind": "Namespace", "name": "books"},
            "requiredAuthenticationRefs": [],
            "validUntil": at,
        }
        return manifest("AuthorizationPolicy", name, spec)

    made = compiler(until("past", -1), until("soon", 1), until("later", 2))
    assert (await take(made, {}, NOW)).ends_at == NOW + timedelta(hours=1)


async def test_others_work_while_a_picture_is_taken_and_what_changes_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pictures, "SLICE_SECONDS", 0.0)
    made = compiler(SELECTS, *(pod(f"p{n}") for n in range(30)))
    looking = asyncio.create_task(take(made, {}, NOW))
    turns = 0
    while not looking.done():
        await asyncio.sleep(0)
        turns += 1
        if turns == 10:
            other = read(Document(manifest("Server", "http", {"podSelector": {}, "port": 81}, generation=4)))
            assert other is not None
            made.apply(
                [(SERVER, other), *((ObjectKey("", "Pod", "books", f"p{n}"), None) for n in range(30))]
            )
    assert turns > 30
    assert SERVER not in looking.result().wanted
    assert (await wanted(made, {})).generation == 4


REF = {"group": "policyd.dev", "kind": "Server", "name": "http"}


def route(*refs: dict[str, Any]) -> dict[str, Any]:
    return manifest(
        "HTTPRoute", "r", {"parentRefs": list(refs), "rules": [{}]}, "gateway.networking.k8s.io/v1"
    )


async def parents(*manifests: dict[str, Any]) -> WantedParents:
    found = (await take(compiler(*manifests), {}, NOW)).wanted[ROUTE]
    assert isinstance(found, WantedParents)
    return found


async def test_each_parent_of_a_route_has_its_own_answer() -> None:
    missing = {**REF, "name": "no"}
    elsewhere = {**REF, "namespace": "shop"}
    found = await parents(SELECTS, route(REF, {"name": "gateway"}, missing, elsewhere))
    told = [(ref["name"], accepted[2], refs[2]) for ref, (accepted, refs) in found.parents]
    assert told == [
        ("http", "Accepted", "ResolvedRefs"),
        ("no", "NoMatchingParent", "ResolvedRefs"),
        ("http", "RefNotPermitted", "RefNotPermitted"),
    ]


async def test_entries_of_others_stay_and_ours_keep_their_times() -> None:
    found = await parents(SELECTS, route(REF))
    other = {"parentRef": {"name": "gateway"}, "controllerName": "example.org/gateway", "odd": 7}
    first = parents_now(found.parents, [other], 3, "then")
    assert first[0] == other
    again = parents_now(found.parents, first, 4, "now")
    assert [each["observedGeneration"] for each in again[1]["conditions"]] == [4, 4]
    assert {each["lastTransitionTime"] for each in again[1]["conditions"]} == {"then"}
    gone = parents_now((), first, 4, "now")
    assert gone == [other]
    broken = {"parentRef": 7, "controllerName": CONTROLLER}
    assert parents_now(found.parents, [broken], 3, "now")[0]["parentRef"] == REF
    full = [{**other, "parentRef": {"name": f"g{n}"}} for n in range(MOST_PARENTS)]
    assert parents_now(found.parents, full, 3, "now") == full
