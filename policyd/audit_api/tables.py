"""Denials as a Table of the API: what `kubectl get` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policyd.explain.cells import group_cells, record_cells
from policyd.explain.readable import printable

ACCEPTED: Final = "as=Table"
"""In the media type of whoever wants one (`application/json;as=Table;v=v1;g=meta.k8s.io`)."""
_COLUMNS = (
    ("Name", "string", "name", 0, "The denial's id: policyctl explain ID"),
    ("Time", "string", "", 0, "When it was refused"),
    ("Caller", "string", "", 0, "Who asked"),
    ("To", "string", "", 0, "Who was asked"),
    ("Request", "string", "", 0, "Method and path"),
    ("Reason", "string", "", 0, "Why it was refused"),
    ("Rule", "string", "", 1, "The policy that decided"),
)
_GROUP_COLUMNS = (
    ("Name", "string", "name", 0, "The newest of them"),
    ("Denials", "integer", "", 0, "How many there are"),
    *_COLUMNS[2:],
)

Object = Mapping[str, Any]


def table(value: Object, include: str = "Metadata") -> dict[str, Any]:
    """Return a list or an object as a Table; `include` is the API's `includeObject`."""
    items = value.get("items")
    if items is None and "record" not in value:
        return dict(value)  # a bookmark, or a gap: neither is a row
    rows = [value] if items is None else items
    grouped = value.get("kind") in {"DenialGroup", "DenialGroupList"}
    metadata = {} if items is None else value["metadata"]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": _definitions(_GROUP_COLUMNS if grouped else _COLUMNS),
        "rows": [{"cells": _cells(each), "object": _object(each, include)} for each in rows],
    }


def _definitions(columns: tuple[tuple[str, str, str, int, str], ...]) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": kind, "format": form, "priority": priority, "description": says}
        for name, kind, form, priority, says in columns
    ]


def _object(value: Object, include: str) -> Any:
    if include == "None":
        return None
    if include == "Object":
        return value
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return partial | {"metadata": value["metadata"]}


def _cells(value: Object) -> list[object]:
    name = value["metadata"]["name"]
    if "group" in value:
        return [name, value["group"]["denials"], *map(printable, group_cells(value["group"]))]
    return [name, *map(printable, record_cells(value.get("record") or {}))]
