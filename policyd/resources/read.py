"""From a document to an object, readable or not."""

from __future__ import annotations

from typing import Any

from policyd.model.finding import Finding
from policyd.model.names import GATEWAY, OUR_GROUPS, POLICYD, ObjectKey
from policyd.resources.base import Document, Resource, Unreadable
from policyd.resources.checks import ENGINE, Checks
from policyd.resources.draft import Draft
from policyd.resources.metadata import read_meta
from policyd.resources.registry import KINDS, Kind
from policyd.resources.spec import shown

TEST_KIND = "PolicyTest"
"""A kind of our group that is no manifest: what `policyctl test` reads."""

_TOP_LEVEL = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})


def type_of(document: Document) -> tuple[str, str, str] | None:
    """(group, version, kind) as written; None where the document is no manifest."""
    api_version, kind = document.content.get("apiVersion"), document.content.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str) or not kind:
        return None
    group, _, version = api_version.rpartition("/")
    return group, version, kind


def not_a_manifest(document: Document) -> Finding | None:
    """Tell what is wrong with a document without apiVersion and kind: it may be meant to be a policy."""
    if type_of(document) is not None:
        return None
    message = "no apiVersion and kind: expected a Kubernetes manifest"
    return Finding("error", "not-a-manifest", message, origin=document.origin())


def read(document: Document, checks: Checks = ENGINE) -> Resource[Any] | Unreadable | None:
    """Return the object that a document holds.

    None for a kind that is none of our business (and for a PolicyTest).
    """
    named = type_of(document)
    if named is None:
        return None
    group, version, name = named
    kind = KINDS.get((group, name))
    if kind is None and (group not in OUR_GROUPS or (group, name) == (POLICYD, TEST_KIND)):
        return None
    if kind is not None and version not in kind.versions and group not in OUR_GROUPS | {GATEWAY}:
        return None
    draft = _draft(document, named, kind, checks)
    if kind is None:
        known = ", ".join(sorted(each.name for each in KINDS.values() if each.group == group))
        draft.add("unknown-kind", ("kind",), f"{shown(name)} is no kind of {group}: expected one of {known}")
        return draft.unreadable()
    return _read(draft, kind)


def _draft(document: Document, named: tuple[str, str, str], kind: Kind | None, checks: Checks) -> Draft:
    group, version, name = named
    meta, problems = read_meta(document, kind is None or kind.namespaced)
    draft = Draft(document, ObjectKey(group, name, meta.namespace, meta.name), version, meta, checks)
    for path, message in problems:
        draft.add("bad-metadata", path, message)
    return draft


def _read(draft: Draft, kind: Kind) -> Resource[Any] | Unreadable:
    if draft.version not in kind.versions:
        expected = ", ".join(f"{kind.group}/{version}" for version in kind.versions)
        draft.add("unknown-version", ("apiVersion",), f"{shown(draft.version)}: expected one of {expected}")
    if kind.group in OUR_GROUPS:
        for name in sorted(draft.document.content.keys() - _TOP_LEVEL):
            advice = "does it belong under spec?"
            draft.add("unknown-field", (name,), f"unknown field {shown(name)}: expected spec", advice=advice)
    return kind.read(draft)
