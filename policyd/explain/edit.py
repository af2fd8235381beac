"""Changing one place of a YAML file and leaving every other byte as it is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from policyd.model.origin import FieldPath, Mark


class CannotEditError(Exception):
    """The place isn't written in a way that can be changed by adding to it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text with the starts of its lines."""

    content: str

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a line and column, both counted from 0."""
        start = 0
        for _ in range(line):
            start = self.content.index("\n", start) + 1
        return start + column

    def line_end(self, line: int) -> int:
        """Return the offset after a line's last character, its newline not included."""
        start = self.offset(line, 0)
        end = self.content.find("\n", start)
        return len(self.content) if end < 0 else end

    def put(self, start: int, end: int, new: str) -> str:
        """Return the content with a part replaced."""
        return self.content[:start] + new + self.content[end:]


def node_at(content: str, root: Mark | None, path: FieldPath) -> Node:
    """Return the node of a field in the document whose root has that mark. Raises CannotEditError."""
    for document in yaml.compose_all(content, Loader=yaml.CSafeLoader):
        found = _document_at(document, root)
        if found is not None:
            for part in path:
                found = _child(found, part)
            return found
    raise CannotEditError("the document isn't in the file any more")


def _document_at(document: Node | None, root: Mark | None) -> Node | None:
    """Return the document itself, or the item of a `List` that begins where the mark is."""
    if document is None or root is None:
        return None
    candidates = [document]
    if isinstance(document, MappingNode):
        candidates += [item for key, items in document.value if key.value == "items" for item in items.value]
    wanted = (root.line - 1, root.column - 1)
    return next(
        (each for each in candidates if (each.start_mark.line, each.start_mark.column) == wanted), None
    )


def _child(node: Node, part: str | int) -> Node:
    inner: Node | None = None
    if isinstance(node, MappingNode) and isinstance(part, str):
        inner = next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        inner = node.value[part]
    if inner is not None:
        return inner
    raise CannotEditError(f"{part!r} isn't there")


def append_item(content: str, node: Node, item: object) -> str:
    """Return the content with an item more at the end of a list."""
    if not isinstance(node, SequenceNode):
        raise CannotEditError("not a list")
    text = Text(content)
    if node.flow_style or not node.value:
        return _before_bracket(text, node, _inline(item), bool(node.value))
    first = node.value[0].start_mark
    dash = text.content.rfind("-", text.offset(first.line, 0), text.offset(first.line, first.column))
    if dash < 0:
        raise CannotEditError("a list in a form that can't be added to")
    indent = " " * (dash - text.offset(first.line, 0))
    return _after(text, node, f"{indent}- {_inline(item)}")


def add_entry(content: str, node: Node, key: str, value: object) -> str:
    """Return the content with an entry more at the end of a mapping."""
    if not isinstance(node, MappingNode):
        raise CannotEditError("not a mapping")
    text = Text(content)
    entry = f"{key}: {_inline(value)}"
    if node.flow_style or not node.value:
        return _before_bracket(text, node, entry, bool(node.value))
    return _after(text, node, " " * node.start_mark.column + entry)


def set_scalar(content: str, node: Node, value: object) -> str:
    """Return the content with another value in the place of a scalar."""
    if not isinstance(node, ScalarNode) or node.style in {"|", ">"}:
        raise CannotEditError("not a plain value")
    text = Text(content)
    start = text.offset(node.start_mark.line, node.start_mark.column)
    return text.put(start, text.offset(node.end_mark.line, node.end_mark.column), _inline(value))


def append_document(content: str, document: Mapping[str, object]) -> str:
    """Return the content with one document more at its end."""
    ending = "" if not content or content.endswith("\n") else "\n"
    written = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=4096)
    return f"{content}{ending}---\n{written}"


def unified_diff(file: str, before: str, after: str) -> str:
    """Return the change as a patch that `patch -p0` takes."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), file, file
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _before_bracket(text: Text, node: Node, new: str, follows: bool) -> str:
    end = text.offset(node.end_mark.line, node.end_mark.column)
    if text.content[end - 1] not in "]}":
        raise CannotEditError("a value in a form that can't be added to")
    inner = text.content[: end - 1].rstrip()
    comma = "" if not follows or inner.endswith(",") else ","
    space = " " if follows else ""
    return inner + comma + space + new + text.content[end - 1 :]


def _after(text: Text, node: Node, line: str) -> str:
    """Put a line after a block's last: the end that a parser reports lies behind blank lines and comments."""
    end = text.line_end(_last(node).end_mark.line)
    return text.put(end, end, f"\n{line}")


def _last(node: Node) -> Node:
    """Return the innermost last value of a block."""
    if isinstance(node, ScalarNode) and node.style in {"|", ">"}:
        raise CannotEditError("ends with a block of text")
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return node
    last = node.value[-1]
    return _last(last[1] if isinstance(last, tuple) else last)


def _inline(value: Any) -> str:
    written = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=4096, allow_unicode=True)
    return str(written).removesuffix("...\n").strip()
