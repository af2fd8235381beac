"""A process's configuration: one JSON file, read strictly and whole, never changed afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

_UNITS = {"h": 3600, "m": 60, "s": 1}


class ConfigError(ValueError):
    """The file can't be used; one line per fault: file, key, value, what was expected."""


class Config(BaseModel):
    """Frozen, no unknown keys, keys in camelCase."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, hide_input_in_errors=False
    )


def parse_duration(value: object) -> timedelta:
    """Read `24h`, `90m`, `30s` or a sequence of these; raises ValueError."""
    text = value if isinstance(value, str) else ""
    seconds, number = 0, ""
    for character in text:
        if character.isascii() and character.isdigit() and len(number) < 9:
            number += character
        elif character in _UNITS and number:
            seconds, number = seconds + int(number) * _UNITS[character], ""
        else:
            raise ValueError("expected a duration such as 24h, 90m or 30s")
    if not seconds or number:
        raise ValueError("expected a duration such as 24h, 90m or 30s")
    return timedelta(seconds=seconds)


def split_address(text: str) -> tuple[str, int]:
    """Read `host:port` or `[v6]:port`; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected host:port, e.g. 127.0.0.1:9443")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_address(text: str) -> str:
    split_address(text)
    return text


Address = Annotated[str, AfterValidator(_check_address)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
FilePath = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(path: Path, model: type[ConfigT]) -> ConfigT:
    """Read the file; relative paths in it are relative to the working folder. Raises ConfigError."""
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected JSON: {error}") from error
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_line(path, fault) for fault in error.errors())) from error


def _line(path: Path, fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "the file"
    value = "" if fault["type"] == "missing" else f" {fault['input']!r:.100}:"
    return f"{path}: {key}:{value} {fault['msg']}"


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"key {key!r} is there twice")
        fields[key] = value
    return fields
