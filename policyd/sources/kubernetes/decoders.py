"""From an object's JSON to what a file with it would have given.

Policies keep their document, because fixes and explanations show it. Of kinds that are many only what is read
is ever made: ten thousand pods as plain values take seconds and most of a gigabyte.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeVar, get_args

import msgspec

from policyd.model.names import CORE, ObjectKey
from policyd.resources import cluster
from policyd.resources.base import Document, Meta, Resource
from policyd.resources.checks import ENGINE, Checks
from policyd.resources.read import read
from policyd.resources.registry import Kind
from policyd.resources.workload import (
    Container,
    ContainerPort,
    OwnerKind,
    OwnerReference,
    Pod,
    PodOwner,
    PodSpec,
    PodStatus,
    PodTemplate,
    Probe,
    TemplateMeta,
)
from policyd.sources.events import AnyObject
from policyd.sources.kubernetes.authorship import authorship_of

Decode = Callable[[msgspec.Raw], AnyObject]
T = TypeVar("T")

ANNOTATION_PREFIXES = ("policyd.dev/", "config.linkerd.io/", "linkerd.io/")
"""Whose annotations are kept of kinds that are many: others hold whole manifests."""
MOST_INTERNED = 8192
"""Lists of containers that are kept once for all pods that have the same."""
_IGNORED = frozenset({"status"})
_IGNORED_META = frozenset({"managedFields", "resourceVersion", "selfLink"})


class _Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A part of an object, as it is read off the wire."""


class _Meta(_Part, frozen=True):
    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    generation: int | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class _Container(_Part, frozen=True):
    """A container without what only who runs it needs."""

    name: str
    ports: tuple[ContainerPort, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: str | None = None


class _PodSpec(_Part, frozen=True):
    containers: tuple[_Container, ...] = ()
    init_containers: tuple[_Container, ...] = ()
    service_account_name: str = ""
    service_account: str = ""
    restart_policy: str = "Always"
    host_network: bool = False
    node_name: str = ""


class _Template(_Part, frozen=True):
    metadata: TemplateMeta | None = None
    spec: _PodSpec = _PodSpec()


class _JobTemplateSpec(_Part, frozen=True):
    template: _Template = _Template()


class _JobTemplate(_Part, frozen=True):
    spec: _JobTemplateSpec = _JobTemplateSpec()


class _OwnerSpec(_Part, frozen=True):
    template: _Template = _Template()
    replicas: int | None = None
    job_template: _JobTemplate | None = None


class _NodeSpec(_Part, frozen=True):
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")


class _NodeStatus(_Part, frozen=True):
    addresses: tuple[cluster.NodeAddress, ...] = ()


class _Named(_Part, frozen=True):
    metadata: _Meta


class _PodObject(_Named, frozen=True):
    spec: _PodSpec
    status: PodStatus = PodStatus()


class _OwnerObject(_Named, frozen=True):
    spec: _OwnerSpec = _OwnerSpec()


class _ServiceObject(_Named, frozen=True):
    spec: cluster.Service = cluster.Service()


class _NodeObject(_Named, frozen=True):
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()


class _SliceObject(_Named, frozen=True):
    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: tuple[cluster.Endpoint, ...] | None = ()
    ports: tuple[cluster.EndpointPort, ...] | None = ()


class Decoders:
    """Makes the decoder of each kind; what equal pods have in common is kept once."""

    def __init__(self, checks: Checks = ENGINE) -> None:
        self._checks = checks
        self._containers: dict[tuple[_Container, ...], tuple[Container, ...]] = {}

    def of(self, kind: Kind, version: str) -> Decode:
        """Return what reads a kind's objects of an apiVersion. It raises ValueError where JSON is none."""
        whole = self._whole(kind, version)
        known: dict[tuple[str, str], tuple[type[Any], Callable[[Any], object]]] = {
            (CORE, "Pod"): (_PodObject, self._pod),
            (CORE, "Namespace"): (_Named, lambda _: cluster.Namespace()),
            (CORE, "ServiceAccount"): (_Named, lambda _: cluster.ServiceAccount()),
            (CORE, "Service"): (_ServiceObject, lambda found: found.spec),
            (CORE, "Node"): (_NodeObject, _node),
            ("discovery.k8s.io", "EndpointSlice"): (_SliceObject, _slice),
        }
        if kind.name in get_args(OwnerKind):
            known[kind.group, kind.name] = (_OwnerObject, lambda found: self._owner(kind.name, found))
        found = known.get((kind.group, kind.name))
        return whole if found is None else _struct(kind, version, *found, whole)

    def _whole(self, kind: Kind, version: str) -> Decode:
        decoder = msgspec.json.Decoder(dict[str, Any])
        api_version = f"{kind.group}/{version}" if kind.group else version

        def decode(body: msgspec.Raw) -> AnyObject:
            content = decoder.decode(body)
            document = Document(_said(content, api_version, kind.name), authorship=authorship_of(content))
            found = read(document, self._checks)
            if found is None:
                raise ValueError(f"{api_version} {kind.name} is no kind that is read")
            return found

        return decode

    def _pod(self, found: _PodObject) -> Pod:
        return Pod(found.metadata.owner_references or (), self._pod_spec(found.spec), found.status)

    def _owner(self, kind: Any, found: _OwnerObject) -> PodOwner:
        spec = found.spec
        template = spec.template if spec.job_template is None else spec.job_template.spec.template
        made = PodTemplate(template.metadata or TemplateMeta(), self._pod_spec(template.spec))
        return PodOwner(kind, found.metadata.owner_references or (), made, spec.replicas)

    def _pod_spec(self, spec: _PodSpec) -> PodSpec:
        return PodSpec(
            containers=self._shared(spec.containers),
            init_containers=self._shared(spec.init_containers),
            service_account_name=spec.service_account_name or spec.service_account,
            restart_policy=spec.restart_policy,
            host_network=spec.host_network,
            node_name=spec.node_name,
        )

    def _shared(self, containers: tuple[_Container, ...]) -> tuple[Container, ...]:
        known = self._containers.get(containers)
        if known is None:
            known = tuple(_container(each) for each in containers)
            if len(self._containers) >= MOST_INTERNED:
                self._containers.clear()
            self._containers[containers] = known
        return known


def _struct(
    kind: Kind, version: str, wire: type[Any], make: Callable[[Any], object], whole: Decode
) -> Decode:
    decoder = msgspec.json.Decoder(wire)

    def decode(body: msgspec.Raw) -> AnyObject:
        try:
            found = decoder.decode(body)
            spec = make(found)
        except msgspec.ValidationError:
            return whole(body)  # with nulls where they may be, or unreadable, and then it says where
        written: _Meta = found.metadata
        key = ObjectKey(kind.group, kind.name, written.namespace, written.name)
        meta = _meta(written)
        return Resource(key, version, meta, Document(_digested(meta, spec)), spec)

    return decode


def _digested(meta: Meta, spec: object) -> dict[str, object]:
    """Return what makes an object another one: all that is read of it, and nothing that isn't."""
    named = {"uid": meta.uid, "labels": meta.labels, "annotations": meta.annotations, "gone": meta.deletion}
    return {"metadata": named, "spec": spec}


def _meta(written: _Meta) -> Meta:
    kept = {
        name: value
        for name, value in (written.annotations or {}).items()
        if name.startswith(ANNOTATION_PREFIXES)
    }
    return Meta(
        name=written.name,
        namespace=written.namespace,
        labels=written.labels or {},
        annotations=kept,
        created=written.creation_timestamp,
        generation=written.generation,
        uid=written.uid or None,
        deletion=written.deletion_timestamp,
    )


def _container(found: _Container) -> Container:
    return Container(
        found.name,
        ports=found.ports,
        liveness_probe=found.liveness_probe,
        readiness_probe=found.readiness_probe,
        startup_probe=found.startup_probe,
        restart_policy=found.restart_policy,
    )


def _node(found: _NodeObject) -> cluster.Node:
    return cluster.Node(found.spec.pod_cidrs, found.status.addresses)


def _slice(found: _SliceObject) -> cluster.EndpointSlice:
    return cluster.EndpointSlice(found.address_type, found.endpoints or (), found.ports or ())


def _said(content: dict[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    """Return what its author said: not what a status says, nor who wrote which field.

    Objects of a list don't repeat their apiVersion and kind.
    """
    kept = {name: value for name, value in content.items() if name not in _IGNORED}
    meta = content.get("metadata")
    if isinstance(meta, dict):
        kept["metadata"] = {name: value for name, value in meta.items() if name not in _IGNORED_META}
    return {"apiVersion": api_version, "kind": kind, **kept}
