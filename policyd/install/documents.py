"""Objects as YAML documents: the same objects, the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

WIDTH = 4096
"""No folding: a long line stays one, for grep and for the chart's templates."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and a value that occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def document(value: dict[str, Any]) -> str:
    """Return one object's document, with the mark that begins it."""
    body = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)
    return f"---\n{body}"


def documents(objects: Iterable[dict[str, Any]]) -> str:
    """Return all objects as one stream."""
    return "".join(document(each) for each in objects)
