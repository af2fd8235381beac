"""Promise P-8: no object of a namespace changes what another enforces, what is said of it, or what it costs.

What a namespace says is its own business, with these exceptions, each of which the other namespace, or who
runs the cluster, chose. `test_tenants_exceptions.py` shows each:

- an authentication of A that a policy of B refers to (semantics I5);
- the existence of a Namespace, and labels of it that MeshDefaults trusts, where B selects namespaces (I4);
  who may label namespaces is the cluster's business, not a tenant's;
- an identity that MeshDefaults.externalIdentities gives to A and to B (W6): whose it is can't be told;
- where A's own Services are and what they speak, of which B is told since B calls them.

Cluster-scoped objects (MeshDefaults, Namespace, Node) aren't a tenant's. The API server gives out
uids and addresses of pods and the cluster addresses of Services, so no two have the same here.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyd.compile.compiler import Compiler
from policyd.compile.mesh import MOST_CONDITIONAL
from policyd.compile.report import report
from policyd.index.world import World
from tests.property.neighbours import NEIGHBOUR, neighbours
from tests.property.two_tenants import (
    NOW,
    OF_THE_VICTIM,
    Seen,
    alone,
    grant,
    made_for_the_victim,
    mine,
    objects,
    put,
    the_victims,
    theirs,
    verdicts,
)


@pytest.mark.promise("P-8")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_p_8_nothing_that_a_namespace_writes_is_noticed_in_another(seed: int, other: int) -> None:
    rng = random.Random(other)
    compiler = Compiler(World())
    compiler.apply((found.key, found) for found in the_victims(random.Random(seed)))
    before = Seen.of(compiler)
    compiled = made_for_the_victim(compiler)
    theirs = objects(neighbours(rng))
    while theirs:
        size = rng.randint(1, 12)
        batch, theirs = theirs[:size], theirs[size:]
        changed = compiler.apply((found.key, found) for found in batch)
        assert {name.namespace for name in changed} <= {NEIGHBOUR}
    after = Seen.of(compiler)
    assert after == before
    assert made_for_the_victim(compiler) == compiled, "tables were made again that nothing concerns"
    assert Seen.of(Compiler(compiler.world)) == before, "who compiles all of it at once sees something else"
    answers = verdicts(before.tables, seed)
    assert verdicts(after.tables, seed) == answers
    compiler.apply((key, None) for key in list(compiler.world.objects) if key.namespace == NEIGHBOUR)
    assert Seen.of(compiler) == before


@pytest.mark.promise("P-8")
@pytest.mark.shows("V7", "V8")
def test_p_8_bounds_are_counted_where_they_are_reached() -> None:
    """B's Server is at its bounds, A's far beyond: B's policies count all the same."""

    def many(make: Callable[..., dict[str, Any]], count: int) -> list[dict[str, Any]]:
        made = []
        for number in range(count):
            one = grant(f"p{number}", when=[{"path": {"prefix": f"/{number}"}}])
            made.append(make("AuthorizationPolicy", f"p{number}", one["spec"]))
        return made

    compiler = alone(*many(mine, MOST_CONDITIONAL))
    before = Seen.of(compiler)
    assert "TooManyConditions" not in {found.code for found in before.findings}
    matches = [{"path": {"type": "RegularExpression", "value": f"/{number}/[a-z]+"}} for number in range(64)]
    routes = [
        theirs_of_gateway(f"r{number}", {"parentRefs": [PARENT], "rules": [{"matches": matches}]})
        for number in range(4)
    ]
    deployment = copy.deepcopy(next(iter(objects_named(compiler, "Deployment"))).document.content)
    deployment["metadata"]["namespace"] = NEIGHBOUR
    server = theirs("Server", "s", {"podSelector": {}, "port": 8080})
    assert put(compiler, deployment, server, *routes, *many(theirs, 400)) == {NEIGHBOUR}
    codes = {each.code for each in report(compiler, NOW) if each.key and each.key.namespace == NEIGHBOUR}
    assert "TooManyConditions" in codes
    assert Seen.of(compiler) == before


PARENT = {"group": "policyd.dev", "kind": "Server", "name": "s"}


def theirs_of_gateway(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {**theirs("HTTPRoute", name, spec), "apiVersion": "gateway.networking.k8s.io/v1"}


def objects_named(compiler: Compiler, kind: str) -> Iterable[Any]:
    return (found for found in compiler.world.objects.values() if found.key.kind == kind)


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called, as a measure of time that is the same on every machine."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.promise("P-8")
@pytest.mark.parametrize("edit", ["policy", "server", "pod"])
def test_p_8_an_edit_costs_the_same_beside_a_thousand_workloads_of_another(edit: str) -> None:
    def edited(number: int) -> dict[str, Any]:
        if edit == "policy":
            return grant("p", {"kind": "ServiceAccount", "name": f"a{number}"})
        if edit == "server":
            return mine("Server", "s", {"podSelector": {}, "port": 8080 + number})
        pod = copy.deepcopy(OF_THE_VICTIM[0])
        pod["metadata"]["labels"]["version"] = str(number)
        return pod

    def cost(compiler: Compiler, number: int) -> int:
        (found,) = objects([edited(number)])
        return calls_of(lambda: compiler.apply([(found.key, found)]))

    lonely, beside = alone(), alone()
    put(
        beside,
        *(their_pod(number) for number in range(1000)),
        theirs("Server", "s", {"podSelector": {}, "port": 80}),
    )
    for compiler in (lonely, beside):
        cost(compiler, 0)
    assert cost(beside, 1) <= cost(lonely, 1) * 1.1


@pytest.mark.promise("P-8")
def test_p_8_an_edit_makes_no_table_of_a_thousand_that_another_has_just_changed() -> None:
    def cost(compiler: Compiler, port: int) -> int:
        (found,) = objects([mine("Server", "s", {"podSelector": {}, "port": port})])

        def edited() -> None:
            compiler.take([(found.key, found)])
            for name in compiler.world.workloads.names():
                if name.namespace != NEIGHBOUR:
                    assert compiler.table(name) is not None

        return calls_of(edited) - calls_of(lambda: [*compiler.world.workloads.names()])

    lonely, beside = alone(), alone()
    put(beside, *(their_pod(number) for number in range(1000)))
    cost(lonely, 1)
    cost(beside, 1)
    (theirs_too,) = objects([theirs("Server", "s", {"podSelector": {}, "port": 80})])
    assert beside.take([(theirs_too.key, theirs_too)]) == 1000
    assert cost(beside, 2) <= cost(lonely, 2) * 1.1
    assert len(beside.stale) == 1000, "somebody made what nobody has asked for"


def their_pod(number: int) -> dict[str, Any]:
    """Each of another shape."""
    metadata = {
        "name": f"p{number}",
        "namespace": NEIGHBOUR,
        "uid": f"m{number}",
        "labels": {"a": str(number)},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "app"}]},
    }
