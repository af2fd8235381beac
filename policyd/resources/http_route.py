"""Matches of HTTPRoutes, of Gateway API and of Linkerd's group (semantics R3)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

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


def distinct(names: tuple[str, ...], what: str) -> None:
    """Refuse a name given twice: Gateway API would silently drop the second. Raises ValueError."""
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{what} {shown(min(twice))} more than once: expected each once")


class HTTPMatch(Spec):
    """Requests that a rule is about: all that is given must hold."""

    path: PathMatch = PathMatch()
    """The path; by default any."""
    headers: Annotated[Items[HeaderMatch], Field(max_length=16)] = ()
    """Headers, each name once."""
    query_params: Annotated[Items[QueryMatch], Field(max_length=16)] = ()
    """Keys of the query, each once."""
    method: HTTPMethod | None = None
    """The method; by default any."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        distinct(tuple(header.name for header in self.headers), "header")
        distinct(tuple(key.name for key in self.query_params), "query parameter")
        return self
