"""Matches of HTTPRoutes, of Gateway API and of Linkerd's group (semantics R3)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

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

    @field_validator("value")
    @classmethod
    def _in_the_types_form(cls, value: str, info: ValidationInfo) -> str:
        """Check the value as its type asks; a type that can't be read is told of by itself."""
        kind = info.data.get("type")
        if kind == "RegularExpression":
            check_pattern(value, info)
        if kind not in {"Exact", "PathPrefix"}:
            return value
        path = str(normal_path(value, info))
        return path.rstrip("/") or "/" if kind == "PathPrefix" else path


class HeaderMatch(Spec):
    """A header of a request."""

    type: ValueTest = "Exact"
    """How the value is compared."""
    name: HeaderName
    """The header's name, compared without case."""
    value: Annotated[HeaderValue, Field(min_length=1)]
    """The value, or a regular expression that the whole value must match."""

    @field_validator("value")
    @classmethod
    def _is_a_pattern(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("type") == "RegularExpression":
            check_pattern(value, info)
        return value


class QueryMatch(Spec):
    """A key of a request's query."""

    type: ValueTest = "Exact"
    """How the value is compared."""
    name: Annotated[str, Field(min_length=1, max_length=256)]
    """The key, compared byte for byte."""
    value: Annotated[str, Field(min_length=1, max_length=1024)]
    """The value, or a regular expression that the whole value must match."""

    @field_validator("value")
    @classmethod
    def _is_a_pattern(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("type") == "RegularExpression":
            check_pattern(value, info)
        return value


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
