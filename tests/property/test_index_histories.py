"""Promise P-4: any history of adds, updates and deletes, in any batches, ends where a fresh list would."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyd.compile.compiler import Compiler
from policyd.index.world import Change, Object, World
from policyd.model.names import ObjectKey
from policyd.resources.base import Document
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse
from tests.reference.generate import world as generate_world

MANIFESTS = """
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: w-1
  namespace: n
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: w, uid: d, controller: true}]
spec: {template: {metadata: {labels: {app: w}}, spec: {containers: [{name: a}]}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: w-1-a
  namespace: n
  uid: u
  labels: {app: w}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: w-1, uid: r, controller: true}]
spec: {containers: [{name: a, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: x, namespace: n}
spec: {meshTLS: {identity: spiffe://cluster.local/ns/n/sa/x, serverName: x}}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: y, namespace: n}
spec: {meshTLS: {identity: spiffe://cluster.local/ns/n/sa/x, serverName: x}}
---
apiVersion: v1
kind: Namespace
metadata: {name: n, annotations: {policyd.dev/opaque-ports: "9090"}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: old, namespace: n, labels: {tier: front}}
spec: {podSelector: {}, port: 7001}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: old, namespace: n}
spec: {server: {selector: {matchLabels: {tier: front}}}, client: {unauthenticated: true}}
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: unread, namespace: n}
spec: {podSelector: {}, port: 7002, pathMode: opaque}
---
apiVersion: policyd.dev/v1alpha1
kind: MeshDefaults
metadata: {name: default}
spec: {deny: [{name: a, networks: [{cidr: 192.0.2.0/24}], when: [{path: {prefix: /a}}]}]}
"""
"""Objects that depend on each other in ways that random worlds seldom have."""

Batches = list[list[Change]]


def objects_of(seed: int) -> list[Object]:
    """The objects of a random world."""
    found = (read(Document(document)) for document in generate_world(random.Random(seed)))
    return [each for each in found if each is not None]


EXTRAS = [
    found for found in map(read, parse(MANIFESTS.encode(), "extras.yaml").documents) if found is not None
]


def history(rng: random.Random, final: dict[ObjectKey, Object], others: Iterable[Object]) -> Batches:
    """Batches that end in `final`: some objects come twice, or as another before, or go again."""
    steps: list[Change] = []
    pending: dict[ObjectKey, list[Change]] = {key: [(key, found)] for key, found in final.items()}
    for other in others:
        detour: list[Change] = [(other.key, other)]
        if other.key not in final or rng.random() < 0.3:
            detour.append((other.key, None))
        pending[other.key] = detour + pending.get(other.key, [])
    keys = [key for key, path in pending.items() for _ in path]
    rng.shuffle(keys)
    steps = [pending[key].pop(0) for key in keys]
    batches: Batches = []
    while steps:
        size = rng.randint(1, 6)
        batches.append(steps[:size])
        steps = steps[size:]
    return batches


def state(compiler: Compiler) -> tuple[object, ...]:
    tables = {
        name.text: (table.snapshot, table.version, set(table.findings))
        for name, table in compiler.tables.items()
    }
    members = {key: compiler.table_of_member(key) for key in compiler.world.objects}
    versions = {key.text: table.version for key, table in members.items() if table is not None}
    return (compiler.world.state_hash, tables, versions, set(compiler.refused), set(compiler.failures))


def from_scratch(objects: Iterable[Object]) -> Compiler:
    world = World()
    world.apply((found.key, found) for found in objects)
    return Compiler(world)


@pytest.mark.promise("P-4")
@pytest.mark.shows("W8")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_any_history_ends_where_a_fresh_list_does(seed: int, other: int) -> None:
    rng = random.Random(seed ^ other)
    wanted = [*objects_of(seed), *(each for each in EXTRAS if rng.random() < 0.7)]
    final = {found.key: found for found in wanted}
    compiler = Compiler(World())
    for batch in history(rng, final, [*objects_of(other), *EXTRAS]):
        compiler.apply(batch)
    shuffled = list(final.values())
    rng.shuffle(shuffled)
    assert state(compiler) == state(from_scratch(shuffled))
    assert compiler.world.state_hash == compiler.world.hash_from_scratch()


@pytest.mark.promise("P-4")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_whenever_a_table_is_asked_for_it_is_that_of_the_world_as_it_is(seed: int, other: int) -> None:
    """Tables are made when they are asked for: some of them here after some batches, all of them at last."""
    rng = random.Random(seed ^ other)
    compiler = Compiler(World())
    final = {found.key: found for found in [*objects_of(seed), *EXTRAS]}
    for batch in history(rng, final, [*objects_of(other), *EXTRAS]):
        compiler.take(batch)
        names = list(compiler.world.workloads.names())
        if names and rng.random() < 0.5:
            asked = rng.choice(names)
            fresh = from_scratch(compiler.world.objects.values()).table(asked)
            assert compiler.table(asked) == fresh
    assert state(compiler) == state(from_scratch(final.values()))


@pytest.mark.promise("P-4")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_a_workload_that_is_not_named_as_changed_has_not_changed(seed: int, other: int) -> None:
    rng = random.Random(seed ^ other)
    compiler = Compiler(World())
    final = {found.key: found for found in [*objects_of(seed), *EXTRAS]}
    for batch in history(rng, final, objects_of(other)):
        before = {name: table.version for name, table in compiler.tables.items()}
        changed = compiler.apply(batch)
        after = {name: table.version for name, table in compiler.tables.items()}
        really = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert really <= changed
