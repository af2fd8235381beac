"""Whether an object may be stored: not where the compiler couldn't read it by itself (semantics U1).

What other objects lack or exceed is no reason, so that manifests can be applied in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policyd.model.finding import Finding
from policyd.model.names import GATEWAY
from policyd.resources.base import Document, Resource, Unreadable
from policyd.resources.read import read
from policyd.resources.route import RouteSpec

_GENERATED: Final = "00000"
"""Stands for the end that the API server will give to a generated name."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with an object: `errors` refuse it, `warnings` are told."""

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def validate(
    written: Mapping[str, Any], before: Mapping[str, Any] | None = None, namespace: str = ""
) -> Judgement:
    """Judge an object that is to be stored, in place of `before` where it is there already.

    What can't be read and was stored so already may be labelled, and go: its errors are warnings where `spec`
    stays as it is, or where the object is being deleted.
    """
    found = read(Document(_named(written, namespace)))
    if found is None:
        return Judgement()
    errors = tuple(each for each in found.findings if each.severity == "error")
    warnings = tuple(each for each in found.findings if each.severity == "warning")
    if errors and (not _ours_to_judge(found) or _is_kept(written, before)):
        return Judgement((), errors + warnings)
    return Judgement(errors, warnings)


def _named(written: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    """Return the object with the namespace of the request, and a name where one is to be generated."""
    metadata = written.get("metadata")
    if not isinstance(metadata, Mapping):
        return written
    given = dict(metadata)
    if namespace:
        given.setdefault("namespace", namespace)
    front = given.get("generateName")
    if "name" not in given and isinstance(front, str):
        given["name"] = f"{front}{_GENERATED}"
    return {**written, "metadata": given}


def _ours_to_judge(found: Resource[Any] | Unreadable) -> bool:
    """Whether nobody else may have use for it: Gateway API's objects are ours only on a Server of ours."""
    if found.key.group != GATEWAY:
        return True
    spec = found.spec if isinstance(found, Resource) else None
    return isinstance(spec, RouteSpec) and any(each.names_a_server for each in spec.parent_refs)


def _is_kept(written: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    metadata = written.get("metadata")
    going = isinstance(metadata, Mapping) and metadata.get("deletionTimestamp") is not None
    return before is not None and (going or written.get("spec") == before.get("spec"))
