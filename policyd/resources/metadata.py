"""Reading `metadata`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from policyd.model.names import is_namespace_name, is_object_name
from policyd.model.origin import FieldPath
from policyd.resources.base import Document, Meta
from policyd.resources.instants import read_instant
from policyd.resources.spec import shown

Problems = list[tuple[FieldPath, str]]
"""What is wrong with the metadata: where, and what."""

DEFAULT_NAMESPACE = "default"
"""Where kubectl puts an object that names no namespace."""


def read_meta(document: Document, namespaced: bool) -> tuple[Meta, Problems]:
    """Return the metadata, with a stand-in for each part that can't be read, and what is wrong with it."""
    problems: Problems = []
    written = document.content.get("metadata")
    if not isinstance(written, Mapping):
        problems.append((("metadata",), f"{shown(written)}: expected a mapping with a name"))
        written = {}
    generation, uid = written.get("generation"), written.get("uid")
    meta = Meta(
        name=_name(document, written, problems),
        namespace=_namespace(written, problems) if namespaced else "",
        labels=_texts(written, "labels", problems),
        annotations=_texts(written, "annotations", problems),
        created=_instant(written, "creationTimestamp", problems),
        generation=generation if isinstance(generation, int) else None,
        uid=uid if isinstance(uid, str) else None,
        deletion=_instant(written, "deletionTimestamp", problems),
    )
    return meta, problems


def _name(document: Document, written: Mapping[str, object], problems: Problems) -> str:
    """Return the object's name.

    One without a name must still be told from others: it may be an unreadable Deny.
    """
    name = written.get("name")
    if isinstance(name, str) and is_object_name(name):
        return name
    expected = "expected lower-case letters, digits, `-` and `.`, at most 253 characters"
    problems.append((("metadata", "name"), f"{shown(name)} is not a name: {expected}"))
    content = json.dumps(document.content, sort_keys=True, default=str)
    return f"unnamed-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _namespace(written: Mapping[str, object], problems: Problems) -> str:
    namespace = written.get("namespace")
    if namespace is None:
        return DEFAULT_NAMESPACE
    if isinstance(namespace, str) and is_namespace_name(namespace):
        return namespace
    expected = "expected lower-case letters, digits and `-`, at most 63 characters"
    problems.append((("metadata", "namespace"), f"{shown(namespace)} is not a namespace: {expected}"))
    return DEFAULT_NAMESPACE


def _texts(written: Mapping[str, object], field: str, problems: Problems) -> dict[str, str]:
    values = written.get(field)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        problems.append((("metadata", field), f"{shown(values)}: expected a mapping"))
        return {}
    for key, value in values.items():
        if not isinstance(value, str):
            problems.append(
                (("metadata", field, key), f"{shown(value)}: expected text, in quotes if need be")
            )
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _instant(written: Mapping[str, object], field: str, problems: Problems) -> datetime | None:
    value = written.get(field)
    if value is None:
        return None
    try:
        return read_instant(value)
    except ValueError as error:
        problems.append((("metadata", field), str(error)))
        return None
