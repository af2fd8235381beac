"""Where something was written: a file's line and column, or a generation in a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

FieldPath = tuple[str | int, ...]
"""A place in a document: `("spec", "networks", 0, "cidr")`."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_GENERATION = re.compile(r"generation \d+", re.ASCII)
_PART = re.compile(r"""\[(\d+)\]|\["([^"]*)"\]|([^.\[\]"]+)""")


def path_text(path: FieldPath) -> str:
    """`spec.networks[0].cidr`; a key that isn't a plain word stands in brackets and quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def parse_path(text: str) -> FieldPath:
    """Read what `path_text` writes."""
    return tuple(
        int(found[1]) if found[1] is not None else found[2] if found[2] is not None else found[3]
        for found in _PART.finditer(text)
    )


@dataclass(frozen=True, slots=True)
class Authorship:
    """Who last said something of an object in a cluster: a field manager (`kubectl`, `argocd-controller`)."""

    manager: str
    at: datetime
    operation: str | None = None
    """`Apply` (server-side) or `Update`."""
    through: str | None = None
    """Which GitOps tool keeps the object, as its marks say: `Argo CD application books`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a thing was written. Lines and columns count from 1; 0 means that they aren't known."""

    file: str | None = None
    line: int = 0
    column: int = 0
    generation: int | None = None
    authorship: Authorship | None = field(default=None, compare=False)
    """In a cluster; of a file, its history is asked."""

    @property
    def text(self) -> str:
        """`file:line:column`, or `generation 3`, or nothing."""
        if self.file is not None:
            return f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return "" if self.generation is None else f"generation {self.generation}"


NOWHERE = Origin()


def is_of_cluster(place: str) -> bool:
    """Whether an origin's text is that of an object of a cluster, and names no file."""
    return not place or _GENERATION.fullmatch(place) is not None


@dataclass(frozen=True, slots=True)
class Mark:
    """The place of one value in a file, and the places inside it.

    `inside` is parallel to the value: by key for a mapping, by index for a sequence, None for a scalar. The
    place of a mapping's entry is its key's; the place of a sequence's item is the item's.
    """

    line: int
    column: int
    inside: Mapping[str, Mark] | Sequence[Mark] | None = None

    def child(self, part: str | int) -> Mark | None:
        """Return the place of one entry or item; None where there is none."""
        if isinstance(part, str):
            return self.inside.get(part) if isinstance(self.inside, Mapping) else None
        if isinstance(self.inside, Sequence) and 0 <= part < len(self.inside):
            return self.inside[part]
        return None


@dataclass(frozen=True, slots=True)
class Positions:
    """The places of everything in one document; `root` is None where the document is not from a file."""

    root: Mark | None = None

    def find(self, path: FieldPath | str) -> tuple[int, int] | None:
        """(line, column) of a field, or of the nearest field around it that is there.

        None without positions.
        """
        if self.root is None:
            return None
        mark = self.root
        for part in parse_path(path) if isinstance(path, str) else path:
            inner = mark.child(part)
            if inner is None:
                break
            mark = inner
        return mark.line, mark.column


NO_POSITIONS = Positions()
