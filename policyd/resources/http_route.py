"""Matches of HTTPRoutes, of Gateway API and of Linkerd's group (semantics R3)."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from policyd.errors import EngineError
from policyd.resources.conditions import HeaderName, HeaderValue, normal_path
from policyd.resources.spec import Items, Spec, reading, shown

HTTPMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
ValueTest = Literal["Exact", "RegularExpression"]


def check_pattern(value: str, info: ValidationInfo) -> None:
    """Refuse a regular expression outside of semantics V7. Raises ValueError."""
    try:
        reading(info).checks.regex(value)
    except (EngineError, ValueError) as error:
        raise ValueError(f"{shown(value)} is no regular expression that can be used: {error}") from None


class PathMatch(Spec):
    """The path of a request, without the query."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    """How the path is compared."""
    value: Annotated[str, Field(min_length=1, max_length=1024)] = "/"
    """A path in normal form, the prefix without its trailing `/`, or a regular expression."""

    @model_validator(mode="before")
    @classmethod
    def _normal(cls, written: object, info: ValidationInfo) -> object:
        """Return the value in the form that its type has.

        What isn't one is left to the fields' own checks.
        """
        if not isinstance(written, dict) or not isinstance(written.get("value"), str):
            return written
        value, kind = written["value"], written.get("type", "PathPrefix")
        if kind == "RegularExpression":
            if len(value) <= 1024:
                check_pattern(value, info)
            return written
        path = normal_path(value, info)
        if kind == "PathPrefix" and isinstance(path, str):
            path = path.rstrip("/") or "/"
        return {**written, "value": path}


class HeaderMatch(Spec):
    """A header of a request."""

    type: ValueTest = "Exact"
    """How the value is compared."""
    name: HeaderName
    """The header's name, compared without case."""
    value: Annotated[HeaderValue, Field(min_length=1)]
    """The value, or a regular expression that the whole value must match."""

    @model_validator(mode="after")
    def _pattern(self, info: ValidationInfo) -> Self:
        if self.type == "RegularExpression":
            check_pattern(self.value, info)
        return self


class QueryMatch(Spec):
    """A key of a request's query."""

    type: ValueTest = "Exact"
    """How the value is compared."""
    name: Annotated[str, Field(min_length=1, max_length=256)]
    """The key, compared byte for byte."""
    value: Annotated[str, Field(min_length=1, max_length=1024)]
    """The value, or a regular expression that the whole value must match."""

    @model_validator(mode="after")
    def _pattern(self, info: ValidationInfo) -> Self:
        if self.type == "RegularExpression":
            check_pattern(self.value, info)
        return self


Named = TypeVar("Named", HeaderMatch, QueryMatch)


def _first_of_each(written: tuple[Named, ...]) -> tuple[Named, ...]:
    """Of several entries of one name the first counts, as Gateway API says."""
    found: dict[str, Named] = {}
    for entry in written:
        found.setdefault(entry.name, entry)
    return tuple(found.values())


Headers = Annotated[Items[HeaderMatch], Field(max_length=16), AfterValidator(_first_of_each)]
QueryParams = Annotated[Items[QueryMatch], Field(max_length=16), AfterValidator(_first_of_each)]


class HTTPMatch(Spec):
    """Requests that a rule is about: all that is given must hold."""

    path: PathMatch = PathMatch()
    """The path; by default any."""
    headers: Headers = ()
    """Headers; of one name the first counts."""
    query_params: QueryParams = ()
    """Keys of the query; of one name the first counts."""
    method: HTTPMethod | None = None
    """The method; by default any."""
