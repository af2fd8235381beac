"""Manifests from files and folders."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from policyd.errors import SourceError
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.model.origin import Origin
from policyd.resources.base import Document
from policyd.resources.checks import ENGINE, Checks
from policyd.resources.read import read
from policyd.sources.events import AnyObject
from policyd.sources.yaml_documents import MOST_BYTES, parse

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_RETRIES = 3

Signature = tuple[int, int, int]
"""What changes when a file does: its inode, size and time of modification in ns."""


UNREAD: Signature = (0, 0, 0)
"""The signature of a file that can't be looked at."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """What one file holds.

    Where `problems` isn't empty it could not be read, and nothing is known of its objects.
    """

    path: str
    signature: Signature
    sha256: bytes
    objects: tuple[AnyObject, ...] = ()
    problems: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """All objects of some files.

    `unreadable` are files that are no YAML; `findings` everything else wrong with the files themselves.
    What is wrong with an object is among the object's own findings.
    """

    objects: tuple[AnyObject, ...]
    unreadable: tuple[Finding, ...]
    findings: tuple[Finding, ...]


def find(path: Path) -> Iterator[Path]:
    """Find the manifest files at a path: itself, or all in a folder and below but hidden ones; sorted.

    Raises SourceError where the path or a folder below can't be read.
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise SourceError(f"{path}: no such file or folder")
    found: list[Path] = []
    for folder, below, names in os.walk(path, onerror=_raise):
        below[:] = [name for name in below if not name.startswith(".")]
        found.extend(
            Path(folder, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        )
    yield from sorted(found, key=lambda each: each.parts)


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}")


def signature(path: Path) -> Signature:
    """Tell what changes when the file does. Raises OSError."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_file(path: Path, checks: Checks = ENGINE) -> FileContent:
    """Read one file. Never raises for what is in it or for its absence: that is among the problems."""
    file = str(path)
    try:
        content, seen = _stable_bytes(path)
    except OSError as error:
        problem = Finding("error", "unreadable-file", error.strerror or str(error), origin=Origin(file))
        return FileContent(file, UNREAD, b"", problems=(problem,))
    parsed = parse(content, file, size=seen[1])
    objects = _objects(parsed.documents, checks)
    return FileContent(
        file, seen, hashlib.sha256(content).digest(), tuple(objects), parsed.problems, parsed.findings
    )


def _stable_bytes(path: Path) -> tuple[bytes, Signature]:
    """At most MOST_BYTES + 1 bytes, read while nobody wrote; after some tries what was there then."""
    content, seen = b"", UNREAD
    for _ in range(_RETRIES):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "not a regular file")
        seen = signature(path)
        with path.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if signature(path) == seen:
            break
    return content, seen


def _objects(documents: Iterable[Document], checks: Checks) -> Iterator[AnyObject]:
    for document in documents:
        read_object = read(document, checks)
        if read_object is not None:
            yield read_object


def duplicate(loser: AnyObject, winner: AnyObject) -> Finding:
    """Return the finding about an object that is written twice."""
    message = f"written a second time, without effect: first in {winner.origin.text}"
    return Finding("error", "duplicate-object", message, loser.key, "", loser.origin, "remove one of the two")


def load(paths: Iterable[Path], checks: Checks = ENGINE) -> Loaded:
    """Read files and folders once. A path that isn't there raises SourceError."""
    files = list(dict.fromkeys(file for path in paths for file in find(path)))
    contents = [read_file(file, checks) for file in sorted(files, key=lambda each: each.parts)]
    winners: dict[ObjectKey, AnyObject] = {}
    findings: list[Finding] = []
    for content in contents:
        findings.extend(content.findings)
        for each in content.objects:
            winner = winners.setdefault(each.key, each)
            if winner is not each:
                findings.append(duplicate(each, winner))
    unreadable = tuple(problem for content in contents for problem in content.problems)
    return Loaded(tuple(winners.values()), unreadable, tuple(findings))
