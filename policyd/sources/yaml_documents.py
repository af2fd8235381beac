"""From bytes to documents: plain values with the line and column of every key and item.

libyaml parses; its events are turned into values here, without recursion and within limits, because
PyYAML's own construction expands aliases without bound, lets the last of two equal keys win and knows no
places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from policyd.model.finding import Finding
from policyd.model.origin import Origin, Positions
from policyd.resources.base import Document
from policyd.resources.read import not_a_manifest
from policyd.sources.yaml_values import Builder, Refused

MOST_BYTES = 10 * 1024 * 1024
MOST_DOCUMENTS = 20_000


@dataclass(frozen=True, slots=True)
class Parsed:
    """The manifests of one file. With `problems` there are none: the file is no YAML (semantics U6).

    `findings` are about documents that are YAML and no manifests.
    """

    documents: tuple[Document, ...] = ()
    problems: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()


def parse(content: bytes, file: str, size: int | None = None) -> Parsed:
    """Parse a file's bytes. `List` kinds are unfolded. Never raises for what is in them.

    `size` is that of the whole file, where `content` may be cut because it is too long.
    """
    text = _decode(content, file, len(content) if size is None else max(size, len(content)))
    if isinstance(text, Finding):
        return Parsed(problems=(text,))
    builder = Builder(file)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
            if len(builder.documents) > MOST_DOCUMENTS:
                builder.refuse(event.start_mark, f"more than {MOST_DOCUMENTS} documents: split the file")
    except Refused:
        pass
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_syntax_error(error, text, file))
    except yaml.reader.ReaderError as error:
        place = _place(text.encode(), len(text[: error.position].encode()))
        builder.problems.append(_finding(file, *place, f"character U+{error.character:04X}: expected text"))
    if builder.problems:
        return Parsed(problems=tuple(builder.problems))
    return _manifests(builder, file)


def _finding(file: str, line: int, column: int, message: str) -> Finding:
    return Finding("error", "invalid-yaml", message, origin=Origin(file, line, column))


def _decode(content: bytes, file: str, size: int) -> str | Finding:
    """Return the text; byte order mark dropped. Refuses what is too long, what is no UTF-8, and NUL."""
    if size > MOST_BYTES:
        return _finding(
            file,
            0,
            0,
            f"{size / 2**20:.1f} MiB: expected at most {MOST_BYTES // 2**20} MiB; split the file",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(content, error.start)
        return _finding(
            file, line, column, f"byte 0x{content[error.start]:02x} is no UTF-8: save the file as UTF-8"
        )
    nul = content.find(0)
    if nul >= 0:
        return _finding(file, *_place(content, nul), "NUL byte: expected text")
    return text


def _place(content: bytes, offset: int) -> tuple[int, int]:
    """(line, column) of a byte; columns count characters as far as they can be read."""
    start = content.rfind(b"\n", 0, offset) + 1
    before = content[start:offset].decode("utf-8", "replace")
    return content.count(b"\n", 0, offset) + 1, len(before) + 1


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> Finding:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = error.problem or error.context or "can't be read"
    lines = text.split("\n", line)
    if 0 < line <= len(lines) and lines[line - 1][column - 1 : column] == "\t":
        what = "a tab where YAML wants spaces: indent with spaces"
    elif error.context and error.context_mark and error.context_mark.line + 1 != line:
        what = f"{what} ({error.context} that begins in line {error.context_mark.line + 1})"
    return _finding(file, line, column, f"not YAML: {what}")


def _manifests(builder: Builder, file: str) -> Parsed:
    """Return the documents that are manifests, and findings about those that aren't."""
    documents: list[Document] = []
    findings: list[Finding] = []
    for value, mark in builder.documents:
        if not isinstance(value, Mapping):
            if value is not None:
                message = f"a document that is a {_name(value)}: expected a mapping with apiVersion and kind"
                findings.append(
                    Finding("error", "not-a-manifest", message, origin=Origin(file, mark.line, mark.column))
                )
            continue
        for document in unfold(Document(value, Positions(mark), file)):
            finding = not_a_manifest(document)
            if finding is None:
                documents.append(document)
            else:
                findings.append(finding)
    return Parsed(tuple(documents), (), tuple(findings))


def _name(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"


def unfold(document: Document) -> Iterator[Document]:
    """Return the items of a `List` (also `PodList` and the like); anything else as it is."""
    kind, items = document.content.get("kind"), document.content.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(items, list)):
        yield document
        return
    root = document.positions.root
    marks = root.child("items") if root else None
    for index, item in enumerate(items):
        content = item if isinstance(item, Mapping) else {}
        typed = kind.removesuffix("List")
        if typed and isinstance(item, Mapping) and "kind" not in content:
            content = {"apiVersion": document.content.get("apiVersion"), "kind": typed, **content}
        yield Document(content, Positions(marks.child(index) if marks else None), document.file)
