"""Reading pods, what owns them, and the rest of a cluster, into the structs of `workload` and `cluster`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from policyd.model.origin import FieldPath, parse_path
from policyd.resources import cluster
from policyd.resources.base import Resource, Unreadable
from policyd.resources.draft import Draft
from policyd.resources.workload import (
    OwnerKind,
    OwnerReference,
    Pod,
    PodOwner,
    PodSpec,
    PodStatus,
    PodTemplate,
    Replicas,
)

T = TypeVar("T")
Reader = Callable[[Draft], Resource[Any] | Unreadable]

_PLACE = re.compile(r" - at `(?:key in )?\$([^`]*)`$")


class _Broken(Exception):  # noqa: N818
    """A part that can't be read; it is noted already."""


def _convert(draft: Draft, kind: Any, written: object, path: FieldPath) -> Any:
    """Return the value as a struct. Nothing written counts as a field left out, as the API server has it."""
    try:
        return msgspec.convert(without_nulls(written), kind)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PLACE.search(text)
        inner = parse_path(found[1].replace("[...]", "")) if found else ()
        message = text[: found.start()] if found else text
        draft.add("bad-value", path + inner, message[0].lower() + message[1:])
        raise _Broken from error


def without_nulls(value: object) -> object:
    """Return the value less the fields in which nothing is written."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value if inner is not None]
    return value


def _read(draft: Draft, make: Callable[[], T]) -> Resource[T] | Unreadable:
    try:
        spec = make()
    except _Broken:
        return draft.unreadable()
    return draft.unreadable() if draft.failed else draft.resource(spec)


def _inside(value: object, *path: str) -> object:
    """Return the value at a path; an empty mapping where something is missing on the way."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else value
        if value is None:
            return {}
    return value


def _owners(draft: Draft) -> tuple[OwnerReference, ...]:
    path = ("metadata", "ownerReferences")
    written = _inside(draft.document.content, *path)
    owners: tuple[OwnerReference, ...] = _convert(draft, tuple[OwnerReference, ...], written or [], path)
    return owners


def read_pod(draft: Draft) -> Resource[Pod] | Unreadable:
    """Read a Pod."""
    content = draft.document.content
    return _read(
        draft,
        lambda: Pod(
            _owners(draft),
            _convert(draft, PodSpec, content.get("spec", {}), ("spec",)),
            _convert(draft, PodStatus, content.get("status") or {}, ("status",)),
        ),
    )


def read_pod_owner(draft: Draft) -> Resource[PodOwner] | Unreadable:
    """Read a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob."""
    kind = draft.key.kind
    path = ("spec", "jobTemplate", "spec", "template") if kind == "CronJob" else ("spec", "template")
    content = draft.document.content

    def make() -> PodOwner:
        template = _convert(draft, PodTemplate, _inside(content, *path), path)
        replicas = _convert(draft, Replicas, _inside(content, "spec"), ("spec",)).replicas
        return PodOwner(_convert(draft, OwnerKind, kind, ("kind",)), _owners(draft), template, replicas)

    return _read(draft, make)


def struct_reader(kind: type[T], *path: str) -> Reader:
    """Return a reader of an object whose struct lies at a path."""

    def read(draft: Draft) -> Resource[T] | Unreadable:
        return _read(draft, lambda: _convert(draft, kind, _inside(draft.document.content, *path), path))

    return read


def read_node(draft: Draft) -> Resource[cluster.Node] | Unreadable:
    """Read a Node: what is read lies in `spec` and in `status`."""
    content = draft.document.content
    written = {
        "podCIDRs": _inside(content, "spec", "podCIDRs") or [],
        "addresses": _inside(content, "status", "addresses") or [],
    }
    return _read(draft, lambda: _convert(draft, cluster.Node, written, ()))
