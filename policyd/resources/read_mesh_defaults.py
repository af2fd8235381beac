"""Reading MeshDefaults field by field, and its lists of rules item by item (semantics U4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from policyd.model.origin import FieldPath
from policyd.resources.base import Resource
from policyd.resources.draft import Draft
from policyd.resources.mesh_defaults import (
    DEFAULT_NAME,
    DenyItem,
    MeshDefaults,
    MeshDefaultsSpec,
    RequireItem,
    Revoked,
    UnreadableItem,
)
from policyd.resources.salvage import salvage
from policyd.resources.spec import shown

Item = TypeVar("Item", DenyItem, RequireItem)

MOST_ITEMS = 1000
_BY_ITEM = frozenset({"deny", "require", "revoked"})
_CLOSED: dict[str, Any] = {"default_access": "deny", "max_default": "deny"}
"""What stands for a field that can't be read, where that is not its default."""


def read_mesh_defaults(draft: Draft) -> Resource[MeshDefaults]:
    """Read a MeshDefaults; there is no such thing as an unreadable one."""
    if draft.key.name != DEFAULT_NAME:
        draft.add(
            "no-effect",
            ("metadata", "name"),
            f"{shown(draft.key.name)}: only {DEFAULT_NAME!r} counts",
            "warning",
        )
    if draft.spec is None and "spec" not in draft.document.content:
        return draft.resource(MeshDefaults())
    written = draft.mapping(draft.spec, ("spec",))
    if written is None:
        fields = MeshDefaultsSpec.model_construct(**_CLOSED)
        nobody_knows = (UnreadableItem(0),)
        return draft.resource(
            MeshDefaults(fields, nobody_knows, (), frozenset(MeshDefaultsSpec.model_fields))
        )
    return draft.resource(_read_fields(draft, written))


def _read_fields(draft: Draft, written: Mapping[str, object]) -> MeshDefaults:
    aliases = {name: info.alias or name for name, info in MeshDefaultsSpec.model_fields.items()}
    single = {name: value for name, value in written.items() if name not in _BY_ITEM}
    draft.validate(MeshDefaultsSpec, single, ("spec",))
    read = salvage(MeshDefaultsSpec, single, draft.reading)
    broken = {name for name, alias in aliases.items() if alias in single and name not in read}
    broken |= {name for name in _BY_ITEM if name in written and not isinstance(written[name], list)}
    values: dict[str, Any] = {**read, **{name: _CLOSED[name] for name in broken & _CLOSED.keys()}}
    values["revoked"] = _revocations(draft, written)
    return MeshDefaults(
        fields=MeshDefaultsSpec.model_construct(**values),
        deny=_items(draft, DenyItem, written, "deny"),
        require=_items(draft, RequireItem, written, "require"),
        unreadable_fields=frozenset(broken),
    )


def _items(
    draft: Draft, model: type[Item], written: Mapping[str, object], field: str
) -> tuple[Item | UnreadableItem, ...]:
    """Return the items of `deny` or `require`.

    A list that is none, or too long, is one item that can't be read.
    """
    path: FieldPath = ("spec", field)
    items = draft.sequence(written[field], path) if field in written else []
    if items is not None and len(items) > MOST_ITEMS:
        draft.add("too-many", path, f"{len(items)} items: expected at most {MOST_ITEMS}")
        items = None
    if items is None:
        return (UnreadableItem(0),)
    return tuple(_item(draft, model, item, (*path, index)) for index, item in enumerate(items))


def _item(draft: Draft, model: type[Item], written: object, path: FieldPath) -> Item | UnreadableItem:
    read = draft.validate(model, written, path)
    if read is not None:
        return read
    found = salvage(model, written, draft.reading)
    name, mode, index = found.get("name"), found.get("mode"), path[-1]
    return UnreadableItem(
        index=index if isinstance(index, int) else 0,
        name=name if isinstance(name, str) else None,
        mode="Audit" if mode == "Audit" else "Enforce" if mode == "Enforce" else None,
    )


def _revocations(draft: Draft, written: Mapping[str, object]) -> tuple[Revoked, ...]:
    """Return the revocations that can be read: one that can't must not bring the others back."""
    path: FieldPath = ("spec", "revoked")
    items = draft.sequence(written["revoked"], path) if "revoked" in written else []
    read = [draft.validate(Revoked, item, (*path, index)) for index, item in enumerate(items or [])]
    return tuple(revoked for revoked in read if revoked is not None)
