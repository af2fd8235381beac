"""Workloads, pods and shapes."""

import pytest

from policyd.index.world import Object, World
from policyd.model.names import ObjectKey, WorkloadName
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse

SPEC = "spec: {serviceAccountName: web, containers: [{name: web, ports: [{containerPort: 8080}]}]}"
DEPLOYMENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: books}}
spec: {{template: {{metadata: {{labels: {{app: web}}}}, {SPEC}}}}}
"""
REPLICA_SET = f"""
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-1
  namespace: books
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: d, controller: true}}]
spec: {{template: {{metadata: {{labels: {{app: web, pod-template-hash: '1'}}}}, {SPEC}}}}}
"""
POD = f"""
apiVersion: v1
kind: Pod
metadata:
  name: web-1-a
  namespace: books
  uid: u1
  labels: {{app: web, pod-template-hash: '1'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: r, controller: true}}]
{SPEC}
"""
WEB = WorkloadName("deployment", "books", "web")
SET = WorkloadName("replicaset", "books", "web-1")
POD_KEY = ObjectKey("", "Pod", "books", "web-1-a")


def objects(text: str) -> list[Object]:
    found = (read(document) for document in parse(text.encode(), "world.yaml").documents)
    return [each for each in found if each is not None]


def changes(*texts: str) -> list[tuple[ObjectKey, Object | None]]:
    return [(each.key, each) for each in objects("\n---\n".join(texts))]


@pytest.mark.shows("W1")
def test_a_pod_belongs_to_its_top_owner_whatever_came_first() -> None:
    world = World()
    assert world.apply(changes(POD)).workloads == {WorkloadName("pod", "books", "web-1-a"), SET}
    assert world.workloads.workload_of(POD_KEY) == SET
    assert world.apply(changes(REPLICA_SET)).workloads == {SET, WEB}
    assert world.workloads.workload_of(POD_KEY) == WEB
    world.apply(changes(DEPLOYMENT))
    assert world.workloads.names() == [WEB]
    assert [len(shape.labels) for shape in world.workloads.shapes_of(WEB)] == [1, 2]
    assert world.workloads.pod_by_uid("u1") == POD_KEY


@pytest.mark.shows("W1")
def test_a_pod_without_a_known_owner_is_a_workload_of_its_own() -> None:
    world = World()
    owner = (
        "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: r, controller: true}]"
    )
    static = POD.replace(
        owner, "ownerReferences: [{apiVersion: v1, kind: Node, name: n, uid: r, controller: true}]"
    )
    world.apply(changes(static))
    assert world.workloads.names() == [WorkloadName("pod", "books", "web-1-a")]


def test_replicas_share_a_shape_and_old_replica_sets_have_none() -> None:
    world = World()
    other = POD.replace("web-1-a", "web-1-b").replace("uid: u1", "uid: u2")
    old = REPLICA_SET.replace("web-1", "web-0").replace("'1'", "'0'")
    affected = world.apply(changes(DEPLOYMENT, REPLICA_SET, old, POD, other))
    assert len(affected.shapes_added) == 2
    again = world.apply([(POD_KEY, None)])
    assert not again.shapes_removed
    assert again.workloads == {WEB, WorkloadName("pod", "books", "web-1-a")}


def test_a_status_touches_no_shape() -> None:
    world = World()
    world.apply(changes(DEPLOYMENT, REPLICA_SET, POD))
    affected = world.apply(changes(f"{POD}status: {{podIP: 10.0.0.5}}\n"))
    assert not affected.workloads
    assert not affected.shapes_added


def test_owners_in_a_circle_end() -> None:
    world = World()
    circle = REPLICA_SET.replace("kind: Deployment, name: web,", "kind: ReplicaSet, name: web-1,")
    world.apply(changes(circle, POD))
    assert world.workloads.workload_of(POD_KEY) == SET
    assert world.workloads.members(SET)
