"""From a validation error to sentences that name the value and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policyd.model.origin import FieldPath
from policyd.resources.spec import shown

_WORDS = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of a value; `path` begins at the value."""

    path: FieldPath
    code: str
    message: str
    advice: str = ""


MOST_PROBLEMS = 100
"""Told of one value: whoever wrote 50,000 unknown fields is served by the first ones, and nobody waits."""


def explain(error: ValidationError, model: type[BaseModel], written: object) -> Iterable[Problem]:
    """Tell what is wrong, each place once; of more than MOST_PROBLEMS how many they are, and the first."""
    found = [
        (tuple(part for part in each["loc"] if part != "[key]"), each)
        for each in error.errors(include_url=False)
    ]
    if len(found) > MOST_PROBLEMS:
        message = f"{len(found)} problems: these are the first {MOST_PROBLEMS}"
        yield Problem((), "too-many-problems", message)
    for path, details in found[:MOST_PROBLEMS]:
        inside = (other for other, _ in found if len(other) > len(path) and other[: len(path)] == path)
        # A list whose items are all wrong counts as too short, too: the items say why.
        if details["type"] != "too_short" or next(inside, None) is None:
            yield _problem(details, path, model, written)


def _problem(details: ErrorDetails, path: FieldPath, model: type[BaseModel], written: object) -> Problem:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_field(path, model)
    if kind == "missing":
        return Problem(path, "missing-field", "missing: expected a value")
    if kind == "value_error":
        return Problem(path, "bad-value", str(details["ctx"]["error"]))
    value = "this" if details["input"] is written else shown(details["input"])
    if kind in _WORDS:
        return Problem(path, "wrong-type", f"{value}: {_WORDS[kind]}")
    return Problem(path, "bad-value", f"{value}: {_expected(details)}")


def _expected(details: ErrorDetails) -> str:
    """Tell what was expected, of errors about a value's range."""
    context, message = details.get("ctx", {}), details["msg"]
    bounds = {
        "literal_error": "expected one of {expected}",
        "too_short": "expected {min_length} or more",
        "too_long": "expected {max_length} or fewer",
    }
    words = bounds.get(details["type"])
    return words.format(**context) if words else f"{message[0].lower()}{message[1:]}"


def _unknown_field(path: FieldPath, model: type[BaseModel]) -> Problem:
    around = _model_at(model, path[:-1])
    known = sorted(info.alias or name for name, info in around.model_fields.items()) if around else []
    name = str(path[-1])
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in known], 1)
    meant = [each for each in known if each.lower() in close]
    advice = f"did you mean {meant[0]}?" if meant else ""
    expected = f": expected one of {', '.join(known)}" if known else ""
    return Problem(path, "unknown-field", f"unknown field {shown(name)}{expected}", advice)


def _model_at(model: type[BaseModel], path: FieldPath) -> type[BaseModel] | None:
    """Return the model of the value at a path inside a model's value."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        found = (info for name, info in current.model_fields.items() if (info.alias or name) == part)
        info = next(found, None)
        current = next(_models(info.annotation), None) if info else None
    return current


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
