"""Readers of kinds whose `spec` is one strict model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from policyd.model.names import POLICYD
from policyd.resources.base import Resource, Unreadable
from policyd.resources.draft import Draft
from policyd.resources.salvage import salvage
from policyd.resources.spec import Spec, shown

Reader = Callable[[Draft], Resource[Any] | Unreadable]


def strict(model: type[Spec]) -> Reader:
    """Return a reader of a kind that is readable as a whole or not at all (semantics U1)."""

    def read(draft: Draft) -> Resource[Any] | Unreadable:
        return _strict(draft, model, draft.spec)

    return read


def external_workload(model: type[Spec]) -> Reader:
    """Return a reader of ExternalWorkload, whose v1alpha1 spells `meshTLS` otherwise."""

    def read(draft: Draft) -> Resource[Any] | Unreadable:
        written = draft.spec
        if draft.version == "v1alpha1" and isinstance(written, Mapping) and "meshTLS" not in written:
            written = {"meshTLS" if name == "meshTls" else name: value for name, value in written.items()}
        return _strict(draft, model, written)

    return read


def not_enforced(model: type[Spec]) -> Reader:
    """Return a reader of a kind that is known and has no effect yet."""

    def read(draft: Draft) -> Resource[Any] | Unreadable:
        draft.add("not-enforced", ("kind",), f"{draft.key.kind} is known but not enforced", "warning")
        return _strict(draft, model, draft.spec)

    return read


def not_built(model: type[Spec]) -> Reader:
    """Return a reader of RegoPolicy: until Rego is built each is an unreadable Deny (semantics U1)."""

    def read(draft: Draft) -> Unreadable:
        draft.add(
            "not-supported",
            ("kind",),
            f"{draft.key.kind} can't be evaluated yet: it refuses all of its target",
        )
        if draft.spec is not None:
            draft.validate(model, draft.spec, ("spec",))
        return draft.unreadable(salvage(model, draft.spec, draft.reading))

    return read


def reserved(draft: Draft) -> Unreadable:
    """Read a kind of which there is only the name."""
    draft.add("not-supported", ("kind",), f"{draft.key.kind} is a reserved name: nothing can refer to it yet")
    return draft.unreadable()


def _strict(draft: Draft, model: type[Spec], written: object) -> Resource[Any] | Unreadable:
    if "spec" not in draft.document.content:
        draft.add("missing-field", ("spec",), "missing: expected a mapping")
        return draft.unreadable(salvage(model, None, draft.reading))
    if draft.mapping(written, ("spec",)) is None:
        return draft.unreadable(salvage(model, None, draft.reading))
    spec = draft.validate(model, written, ("spec",))
    _refuse_ours_only(draft, model, written)
    if spec is None or draft.failed:
        return draft.unreadable(salvage(model, written, draft.reading))
    return draft.resource(spec)


def _refuse_ours_only(draft: Draft, model: type[Spec], written: object) -> None:
    """Fields that only our group has are unknown on Linkerd's kind of the same name."""
    if draft.key.group == POLICYD or not isinstance(written, Mapping):
        return
    for name in sorted(model.ours_only & written.keys()):
        draft.add(
            "unknown-field",
            ("spec", name),
            f"unknown field {shown(name)} on a kind of {draft.key.group}",
            advice=f"use {POLICYD}/v1alpha1, which has it",
        )
