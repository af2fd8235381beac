"""Objects of a cluster as a file would have them: a change of one can be tried and shown as a difference."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from policyd.model.origin import Mark
from policyd.resources.base import Document
from policyd.sources.yaml_documents import parse

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The whole object once more, in one line."""


def on_paper(document: Document) -> str:
    """Return the manifest of an object that no file has; its age stays in it, since older Servers win."""
    content = {key: value for key, value in document.content.items() if key != "status"}
    meta = content.get("metadata")
    if isinstance(meta, Mapping) and isinstance(meta.get("annotations"), Mapping):
        kept = {name: value for name, value in meta["annotations"].items() if name != _LAST_APPLIED}
        content["metadata"] = {**meta, "annotations": kept} if kept else _without(meta, "annotations")
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=4096)


def root_of(text: str, file: str) -> Mark | None:
    """Return where the one document of such a text begins."""
    return next((each.positions.root for each in parse(text.encode(), file).documents), None)


def _without(meta: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in meta.items() if key != name}
