"""From what was typed (files of values, `--set a.b=value`) to install settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from policyd.errors import SourceError
from policyd.install.settings import InstallSettings

MOST_BYTES = 64 * 1024
"""Of a file of values: it holds some dozens of lines."""


def chosen(
    files: Sequence[Path], assignments: Sequence[str], before: Mapping[str, Any] | None = None
) -> InstallSettings:
    """Return settings: what was stored `before`, then the files in their order, then assignments.

    Raises SourceError with one line per fault.
    """
    values: dict[str, Any] = dict(before or {})
    for file in files:
        values = merged(values, _read(file))
    for assignment in assignments:
        values = merged(values, _assigned(assignment))
    return checked(values)


def checked(values: Mapping[str, Any]) -> InstallSettings:
    """Return settings from plain values. Raises SourceError with one line per fault."""
    try:
        return InstallSettings.model_validate(values)
    except ValidationError as error:
        raise SourceError("\n".join(_line(fault) for fault in error.errors())) from error


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return both: mappings are merged key by key, anything else is replaced; null takes a value away."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SourceError(f"{file}: expected at most {MOST_BYTES} bytes of values")
        values = yaml.safe_load(content)
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"{file}: expected YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SourceError(f"{file}: expected keys and values")
    return values


def _assigned(assignment: str) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise SourceError(f"--set {assignment!r:.100}: expected key=value, e.g. images.tag=1.2.3")
    try:
        value: Any = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise SourceError(f"--set {assignment!r:.100}: expected a value as in YAML") from error
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _line(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "the settings"
    value = (
        "" if fault["type"] == "missing" or isinstance(fault["input"], dict) else f" {fault['input']!r:.100}:"
    )
    return f"{key}:{value} {fault['msg']}"
