"""A denial as it stands, and the files it stands on: what a candidate for a fix is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yaml.nodes import Node

from policyd.explain.answer import Explanation
from policyd.explain.edit import CannotEditError, append_document, node_at
from policyd.explain.manifests import Manifests, Place
from policyd.explain.paper import root_of
from policyd.explain.question import Question
from policyd.explain.readable import ReadablePort, ReadableRule, identity_text, port_of, rule_at
from policyd.model.names import ObjectKey
from policyd.model.origin import FieldPath
from policyd.resources.base import Resource, Unreadable

Object = Resource[object] | Unreadable
Contents = Mapping[str, str]
"""Texts of files, by their path: those that differ from what is on disk."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One change of one file, and what it does, as a sentence in the imperative."""

    summary: str
    key: ObjectKey
    file: str
    contents: Contents


@dataclass(frozen=True, slots=True)
class Situation:
    """A denied question on the manifests with `contents` in the place of what is on disk."""

    manifests: Manifests
    place: Place
    question: Question
    explanation: Explanation
    contents: Contents

    @property
    def identity(self) -> str | None:
        return self.question.caller.identity

    def told(self, identity: str) -> str:
        """Return an identity as people are told of it."""
        return identity_text(identity, self.manifests.compiler.trust_domain)

    @property
    def port(self) -> ReadablePort | None:
        table = self.manifests.table_of(self.place)
        return None if table is None else port_of(table, self.question.port)

    def object(self, key: ObjectKey) -> Object | None:
        return self.manifests.world.objects.get(key)

    def named(self, name: str | None) -> Object | None:
        return self.manifests.object_named(name) if name else None

    def rule(self, index: int) -> ReadableRule | None:
        """Return the row of that place in the table, as a near miss names it."""
        table = self.manifests.table_of(self.place)
        return None if table is None else rule_at(table, index)

    def text(self, file: str) -> str:
        """Return a file's text as it is in this situation. Raises OSError, UnicodeDecodeError."""
        return self.contents[file] if file in self.contents else self.manifests.text(file)

    def edit(
        self, found: Object, path: FieldPath, change: Callable[[str, Node], str], summary: str
    ) -> Iterator[Candidate]:
        """Yield the change of one field's value; nothing where its form can't be changed by adding to it."""
        file = self.manifests.file_of(found)
        try:
            before = self.text(file)
            root = root_of(before, file) if found.document.file is None else found.positions.root
            after = change(before, node_at(before, root, path))
        except (CannotEditError, OSError, UnicodeDecodeError):
            return
        yield Candidate(summary, found.key, file, {**self.contents, file: after})

    def add_documents(
        self, near: Object, documents: list[dict[str, Any]], summary: str
    ) -> Iterator[Candidate]:
        """Yield the addition of new objects at the end of the file that an object is in.

        Beside an object of a cluster, which is in none, they are a file of their own.
        """
        last = documents[-1]
        key = ObjectKey(
            last["apiVersion"].partition("/")[0],
            last["kind"],
            last["metadata"]["namespace"],
            last["metadata"]["name"],
        )
        file = near.document.file or self.manifests.file_on_paper(key)
        if file.endswith(".json"):
            return
        try:
            after = self.text(file)
        except (OSError, UnicodeDecodeError):
            return
        for document in documents:
            after = append_document(after, document)
        yield Candidate(summary, key, file, {**self.contents, file: after})

    def unused_name(self, wanted: str, kinds: tuple[tuple[str, str], ...], namespace: str) -> str:
        """Return a name that no object of those kinds has."""
        name = wanted[:200].strip("-.")
        number = 1
        while any(ObjectKey(*kind, namespace, name) in self.manifests.world.objects for kind in kinds):
            number += 1
            name = f"{wanted[:200].strip('-.')}-{number}"
        return name


def written(found: Object, path: FieldPath) -> Any:
    """Return the value of a field as it was written; None where it isn't there."""
    value: Any = found.document.content
    for part in path:
        if isinstance(value, Mapping) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
