"""Workloads and pods: which pod belongs to whom, and which shapes there are (semantics W1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from policyd.index.pod_shapes import shape_of_external, shape_of_pod
from policyd.index.shapes import Shape
from policyd.model.names import CORE, LINKERD_WORKLOAD, ObjectKey, WorkloadName
from policyd.resources.base import Resource, Unreadable
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.workload import Pod, PodOwner, PodTemplate, controller_of

Object = Resource[object] | Unreadable
K = TypeVar("K", ObjectKey, str)

POD = (CORE, "Pod")
EXTERNAL = (LINKERD_WORKLOAD, "ExternalWorkload")
OWNERS = frozenset(
    {
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("apps", "ReplicaSet"),
        ("batch", "Job"),
        ("batch", "CronJob"),
    }
)
WORKLOAD_KINDS = OWNERS | {POD, EXTERNAL}
"""(group, kind) of everything that is a workload or a part of one."""
_GROUPS = {kind: group for group, kind in OWNERS}


@dataclass(frozen=True, slots=True)
class Member:
    """A pod, an owner of pods or an ExternalWorkload.

    `shape` is None for owners that somebody else controls (a Deployment's old ReplicaSets are many, and no
    pod has their shape that hasn't it by itself). `owner` is who controls it, None: nobody.
    """

    key: ObjectKey
    shape: Shape | None
    owner: ObjectKey | None
    uid: str | None


class Workloads:
    """All members, by object, by owner and by namespace. A function of the objects that are there."""

    def __init__(self) -> None:
        self._members: dict[ObjectKey, Member] = {}
        self._controlled: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self._by_uid: dict[str, set[ObjectKey]] = defaultdict(set)
        self._users: dict[str, set[ObjectKey]] = defaultdict(set)
        self._shapes: dict[str, dict[str, Shape]] = defaultdict(dict)

    def replace(self, key: ObjectKey, found: Object | None) -> frozenset[WorkloadName]:
        """Take over how an object of one of WORKLOAD_KINDS is now; None or unreadable: it has no shape.

        Return the workloads that have other members, or members of other shapes, than before.
        """
        old = self._members.get(key)
        new = _member(found) if isinstance(found, Resource) else None
        if old == new:
            return frozenset()
        names = {self.workload_of(key)}
        if old is not None:
            self._remove(old)
        if new is not None:
            self._add(new)
        return frozenset(names | {self.workload_of(key)})

    def _add(self, member: Member) -> None:
        self._members[member.key] = member
        if member.owner is not None:
            self._controlled[member.owner].add(member.key)
        if member.uid:
            self._by_uid[member.uid].add(member.key)
        if member.shape is not None:
            self._users[member.shape.key].add(member.key)
            self._shapes[member.shape.namespace][member.shape.key] = member.shape

    def _remove(self, member: Member) -> None:
        del self._members[member.key]
        if member.owner is not None:
            _discard(self._controlled, member.owner, member.key)
        if member.uid:
            _discard(self._by_uid, member.uid, member.key)
        if member.shape is not None:
            shape = member.shape
            _discard(self._users, shape.key, member.key)
            if shape.key not in self._users:
                del self._shapes[shape.namespace][shape.key]

    def shape_keys(self) -> frozenset[str]:
        return frozenset(self._users)

    def has_shape(self, key: str) -> bool:
        """Whether something has the shape of that key."""
        return key in self._users

    def users_of(self, shape: str) -> frozenset[WorkloadName]:
        """Return the workloads that have a shape, by its key."""
        return frozenset(self.workload_of(key) for key in self._users.get(shape, ()))

    def shapes_in(self, namespace: str) -> list[Shape]:
        return list(self._shapes.get(namespace, {}).values())

    def shape(self, key: str) -> Shape:
        """Return the shape of that key. Raises KeyError."""
        return self._shapes[key.partition("/")[0]][key]

    def member(self, key: ObjectKey) -> Member | None:
        """Return what is known of a pod, an owner or an ExternalWorkload."""
        return self._members.get(key)

    def pod_by_uid(self, uid: str) -> ObjectKey | None:
        """Return the pod of that uid; None where none or more than one has it."""
        pods = [key for key in self._by_uid.get(uid, ()) if (key.group, key.kind) == POD]
        return pods[0] if len(pods) == 1 else None

    def workload_of(self, key: ObjectKey) -> WorkloadName:
        """Return the workload that a member belongs to: its top owner, as far as owners are known."""
        top = key
        for _ in range(8):  # Deployment > ReplicaSet > Pod; the bound is against owners in a circle
            member = self._members.get(top)
            if member is None or member.owner is None:
                break
            top = member.owner
        return WorkloadName(top.kind.lower(), top.namespace, top.name)

    def names(self) -> list[WorkloadName]:
        """Return every workload, sorted."""
        return sorted({self.workload_of(key) for key in self._members})

    def members(self, name: WorkloadName) -> list[Member]:
        """Return what belongs to a workload: its own object first, then what that owns, by key."""
        top = self._top(name)
        inherited = sorted(self._owned(top, depth=8), key=lambda member: member.key)
        own = self._members.get(top)
        return inherited if own is None else [own, *inherited]

    def _owned(self, key: ObjectKey, depth: int) -> Iterable[Member]:
        for inner in self._controlled.get(key, ()) if depth else ():
            yield self._members[inner]
            yield from self._owned(inner, depth - 1)

    def _top(self, name: WorkloadName) -> ObjectKey:
        """Return the key of a workload's own object; of a kind that isn't ours, as its pods name it."""
        for group, kind in WORKLOAD_KINDS:
            if kind.lower() == name.kind:
                return ObjectKey(group, kind, name.namespace, name.name)
        named = (
            key for key in self._controlled if WorkloadName(key.kind.lower(), key.namespace, key.name) == name
        )
        return min(named, default=ObjectKey("", name.kind, name.namespace, name.name))

    def shapes_of(self, name: WorkloadName) -> list[Shape]:
        """Return a workload's shapes, each once: its template's first, then its pods' by name."""
        shapes = (member.shape for member in self.members(name) if member.shape is not None)
        return list({shape.key: shape for shape in shapes}.values())


def _discard(index: dict[K, set[ObjectKey]], place: K, key: ObjectKey) -> None:
    index[place].discard(key)
    if not index[place]:
        del index[place]


def _member(found: Resource[object]) -> Member | None:
    spec, meta = found.spec, found.meta
    if isinstance(spec, Pod):
        pod = shape_of_pod(meta.namespace, meta.labels, meta.annotations, spec.spec)
        return Member(found.key, pod, _owner(spec, meta.namespace), meta.uid)
    if isinstance(spec, PodOwner):
        owner = _owner(spec, meta.namespace)
        shape = _shape_of_template(meta.namespace, spec.template) if owner is None else None
        return Member(found.key, shape, owner, meta.uid)
    if isinstance(spec, ExternalWorkloadSpec):
        return Member(found.key, shape_of_external(meta, spec), None, meta.uid)
    return None


def _shape_of_template(namespace: str, template: PodTemplate) -> Shape:
    metadata = template.metadata
    return shape_of_pod(namespace, metadata.labels or {}, metadata.annotations or {}, template.spec)


def _owner(spec: Pod | PodOwner, namespace: str) -> ObjectKey | None:
    controller = controller_of(spec.owners)
    if controller is None or controller.kind == "Node":  # a static pod's mirror is nobody's but its own
        return None
    group = controller.api_version.rpartition("/")[0] or _GROUPS.get(controller.kind, "")
    return ObjectKey(group, controller.kind, namespace, controller.name)
