"""Items of `when` (semantics V1): the scope of a policy."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from policyd.errors import EngineError
from policyd.resources.checks import Checks
from policyd.resources.spec import Cel, Items, Spec, reading, shown

RESERVED_HEADERS = frozenset(
    {
        "host",
        "l5d-client-id",
        "x-forwarded-client-cert",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
"""Headers that the proxy owns: removed before policy, or with an item of their own (decision record 2)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]{1,32}")


def normal_header_name(value: object) -> object:
    """Return a header's name in lower case.

    Refuses what can't be one and what the proxy owns. Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    if _TOKEN.fullmatch(value) is None:
        raise ValueError(f"{shown(value)} is no header name: expected letters, digits and `-`")
    name = value.lower()
    if name in RESERVED_HEADERS or name.startswith("x-policyd-"):
        raise ValueError(
            f"{shown(value)} can't be read by a policy: the proxy removes it or has an item for it"
        )
    return name


def normal_header_value(value: object) -> object:
    """Return a header's value without the blanks around it (semantics V3).

    Raises ValueError for control characters.
    """
    if not isinstance(value, str):
        return value
    if any((ord(char) < 0x20 and char != "\t") or ord(char) == 0x7F for char in value):
        raise ValueError(f"{shown(value)} is no header value: expected no control characters")
    if value != value.strip(" \t"):
        raise ValueError(f"{shown(value)} has blanks around it: expected none, since a request's are removed")
    return value


def normal_method(value: object) -> object:
    if isinstance(value, str) and _METHOD.fullmatch(value) is None:
        raise ValueError(
            f"{shown(value)} is no method: expected upper case, at most 32 characters, such as GET"
        )
    return value


def normal_host(value: object, info: ValidationInfo) -> object:
    """Check a host: an authority in normal form without port, or `*.` in front of one (semantics V6)."""
    return check_host(value, reading(info).checks) if isinstance(value, str) else value


def check_host(host: str, checks: Checks) -> str:
    """Check a host as `normal_host` does. Raises ValueError."""
    expected = f"{shown(host)} is no host: expected lower case and no port, as in web.example or *.example"
    bare = host.removeprefix("*.")
    try:
        normal = checks.host(bare)
    except (EngineError, ValueError) as error:
        raise ValueError(f"{expected} ({error})") from None
    is_address = bare.startswith("[") or bare.rpartition(".")[2].isdigit()
    if normal != bare or (is_address and bare != host):
        raise ValueError(expected)
    return host


def normal_path(value: object, info: ValidationInfo) -> object:
    """Check that a path is written in the gate's normal form; otherwise it is unreadable (semantics V5)."""
    if not isinstance(value, str):
        return value
    try:
        normal = reading(info).checks.path(value)
    except (EngineError, ValueError) as error:
        raise ValueError(f"{shown(value)} is no path in normal form: {error}") from None
    if normal != value:
        raise ValueError(f"{shown(value)} is no path in normal form: expected {shown(normal)}")
    return value


def _normal_prefix(value: object, info: ValidationInfo) -> object:
    path = normal_path(value, info)
    return path.rstrip("/") or "/" if isinstance(path, str) else path


HeaderName = Annotated[str, BeforeValidator(normal_header_name), Field(min_length=1, max_length=256)]
HeaderValue = Annotated[str, BeforeValidator(normal_header_value), Field(max_length=4096)]
QueryText = Annotated[str, Field(max_length=1024)]
Method = Annotated[str, BeforeValidator(normal_method), Field(min_length=1, max_length=32)]
Host = Annotated[str, BeforeValidator(normal_host), Field(min_length=1, max_length=253)]
Path = Annotated[str, BeforeValidator(normal_path), Field(min_length=1, max_length=1024)]
PathPrefix = Annotated[str, BeforeValidator(_normal_prefix), Field(min_length=1, max_length=1024)]
"""A path prefix without its trailing `/`, but `/` itself."""

T = TypeVar("T")
Values = Annotated[Items[T], Field(min_length=1, max_length=256)]
"""What `in` and `notIn` list; never nothing (semantics I7)."""


def _exactly_one(what: str, *fields: str) -> tuple[Cel, ...]:
    """Make the CEL rule that exactly one of the fields is given; `in` is a word of CEL's own."""
    given = ", ".join(f"has(self.{'__in__' if field == 'in' else field})" for field in fields)
    expected = f"expected exactly one of {', '.join(fields)}"
    words = f"([{given}].exists(given, given) ? 'several' : 'no') + ' {what} given: {expected}'"
    return (Cel(f"[{given}].exists_one(given, given)", expected, words),)


def _many(given: Collection[str]) -> str:
    return "several" if given else "no"


class _Test(Spec):
    """What a value is compared with: exactly one of the fields that a subject has."""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        tests = [name for name in type(self).model_fields if name != "name"]
        given = [name.removesuffix("_") for name in tests if name in self.model_fields_set]
        if len(given) != 1:
            names = ", ".join(to_written(name) for name in tests)
            raise ValueError(f"{_many(given)} tests given: expected exactly one of {names}")
        return self


def to_written(attribute: str) -> str:
    """Return the name in a manifest of an attribute of a test."""
    return {"in_": "in", "not_in": "notIn"}.get(attribute, attribute)


class HeaderTest(_Test):
    """A test of a request's header."""

    cel: ClassVar[tuple[Cel, ...]] = _exactly_one("tests", "in", "notIn", "prefix", "exists")

    name: HeaderName
    """The header's name, compared without case."""
    in_: Annotated[Values[HeaderValue] | None, Field(alias="in")] = None
    """The value is one of these."""
    not_in: Values[HeaderValue] | None = None
    """The value is none of these, or absent."""
    prefix: Annotated[HeaderValue, Field(min_length=1)] | None = None
    """The value begins with this."""
    exists: bool | None = None
    """Whether the header is there."""


class QueryTest(_Test):
    """A test of a key of a request's query."""

    cel: ClassVar[tuple[Cel, ...]] = _exactly_one("tests", "in", "notIn", "prefix", "exists")

    name: Annotated[str, Field(min_length=1, max_length=256)]
    """The key, compared byte for byte."""
    in_: Annotated[Values[QueryText] | None, Field(alias="in")] = None
    """The value is one of these."""
    not_in: Values[QueryText] | None = None
    """The value is none of these, or absent."""
    prefix: Annotated[QueryText, Field(min_length=1)] | None = None
    """The value begins with this."""
    exists: bool | None = None
    """Whether the key is there."""


class MethodTest(_Test):
    """A test of a request's method."""

    cel: ClassVar[tuple[Cel, ...]] = _exactly_one("tests", "in", "notIn")

    in_: Annotated[Values[Method] | None, Field(alias="in")] = None
    """The method is one of these."""
    not_in: Values[Method] | None = None
    """The method is none of these."""


class HostTest(_Test):
    """A test of the host that a request asks for."""

    cel: ClassVar[tuple[Cel, ...]] = _exactly_one("tests", "in", "notIn")

    in_: Annotated[Values[Host] | None, Field(alias="in")] = None
    """The host is one of these; `*.` in front stands for one or more labels."""
    not_in: Values[Host] | None = None
    """The host is none of these."""


class PathTest(_Test):
    """A test of a request's path, without the query."""

    cel: ClassVar[tuple[Cel, ...]] = _exactly_one("tests", "in", "notIn", "prefix")

    in_: Annotated[Values[Path] | None, Field(alias="in")] = None
    """The path is one of these."""
    not_in: Values[Path] | None = None
    """The path is none of these."""
    prefix: PathPrefix | None = None
    """The path's first segments are these."""


class WhenItem(Spec):
    """One condition on a request: exactly one of header, query, method, host and path."""

    cel: ClassVar[tuple[Cel, ...]] = _exactly_one("subjects", "header", "query", "method", "host", "path")

    header: HeaderTest | None = None
    """A condition on a header."""
    query: QueryTest | None = None
    """A condition on a key of the query."""
    method: MethodTest | None = None
    """A condition on the method."""
    host: HostTest | None = None
    """A condition on the host."""
    path: PathTest | None = None
    """A condition on the path."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if len(self.model_fields_set) != 1:
            subjects = ", ".join(type(self).model_fields)
            raise ValueError(
                f"{_many(self.model_fields_set)} subjects given: expected exactly one of {subjects}"
            )
        return self

    @property
    def subject(self) -> str:
        """`header`, `query`, `method`, `host` or `path`."""
        return next(iter(self.model_fields_set))

    @property
    def test(self) -> HeaderTest | QueryTest | MethodTest | HostTest | PathTest:
        """The subject's test."""
        found = self.header or self.query or self.method or self.host or self.path
        assert found is not None, "a WhenItem has one subject"  # noqa: S101
        return found


When = Annotated[Items[WhenItem], Field(max_length=16)]
"""All must hold; none: every request (semantics A2)."""
