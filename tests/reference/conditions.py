"""`when`: what an item asks of a request, for a grant and against one [V1-V6]."""

import re
from dataclasses import dataclass, field
from typing import Any

from tests.reference.gate import MESH_HEADERS, HttpRequest, host_name
from tests.reference.paths import folded, has_prefix, policy_path
from tests.reference.reading import Unreadable, fields, flag, items, text

TESTS = {
    "header": ("in", "notIn", "prefix", "exists"),
    "query": ("in", "notIn", "prefix", "exists"),
    "method": ("in", "notIn"),
    "host": ("in", "notIn"),
    "path": ("in", "notIn", "prefix"),
}
UNREADABLE_HEADERS = (
    "host", *MESH_HEADERS, "connection", "keep-alive", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "expect",
)  # fmt: skip
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass
class Condition:
    """`subject` and `name` say what is looked at, `test` and `values` what for."""

    subject: str
    name: str
    test: str
    values: list[str] = field(default_factory=list)


def header_name(value: Any) -> str:
    """A header that policies may read: not one that the proxy removes or that has its own item."""
    name = text(value).lower()
    if not HEADER_NAME.fullmatch(name) or name in UNREADABLE_HEADERS or name.startswith("x-policyd-"):
        raise Unreadable(f"header {name!r} can't be read by policies")
    return name


def host_pattern(value: Any) -> str:
    """A host in normal form without port, or `*.` in front of one [V6]."""
    given = text(value)
    bare = given.removeprefix("*.")
    if ":" in bare.strip("[]") and not bare.startswith("["):
        raise Unreadable(f"{given!r}: a host without port")
    if host_name(bare) != bare:
        raise Unreadable(f"{given!r}: expected a host in normal form")
    return given


def host_matches(pattern: str, host: str) -> bool:
    """`*.a.b` stands for one or more labels in front of `.a.b`."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _value(subject: str, value: Any) -> str:
    if subject == "host":
        return host_pattern(value)
    if subject == "method":
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Z-]{1,32}", text(value)):
            raise Unreadable(f"method {value!r}")
        return text(value)
    if subject == "path":
        try:
            return policy_path(text(value))
        except ValueError as error:
            raise Unreadable(f"path {value!r} isn't in normal form") from error
    if not isinstance(value, str):
        raise Unreadable(f"{value!r}: expected a string")
    return value


def condition(value: Any) -> Condition:
    """Read one item of `when`: one subject, exactly one test [V1]. `Unreadable` otherwise."""
    outer = fields(value, *TESTS)
    if len(outer) != 1:
        raise Unreadable("an item of `when` names exactly one subject")
    (subject, inner) = next(iter(outer.items()))
    named = subject in ("header", "query")
    entry = fields(inner, *(("name",) if named else ()), *TESTS[subject])
    name = entry.pop("name", "")
    if named:
        name = header_name(name) if subject == "header" else text(name)
    if len(entry) != 1:
        raise Unreadable("an item of `when` has exactly one test")
    (test, given) = next(iter(entry.items()))
    if test == "exists":
        return Condition(subject, name, "exists" if flag(given) else "absent")
    if test == "prefix":
        prefix = _value(subject, given)
        return Condition(subject, name, "prefix", [text(prefix)])
    return Condition(subject, name, test, sorted({_value(subject, item) for item in items(given)}))


def conditions(value: Any) -> list[Condition]:
    return [condition(item) for item in items(value, least=0)]


def header_values(request: HttpRequest, name: str, *, elements: bool) -> list[str]:
    """One field line is one value [V3]; against a request each element is a value, too [V2]."""
    lines = [value for key, value in request.headers if key == name]
    if not elements:
        return lines
    split = [part.strip(" \t") for line in lines if "," in line for part in line.split(",")]
    return lines + split


def query_values(request: HttpRequest, name: str) -> list[bytes]:
    return [value for key, value in request.query_pairs if key == name.encode()]


def _value_holds(item: Condition, value: Any) -> bool:
    wanted = item.values if isinstance(value, str) else [one.encode() for one in item.values]
    if item.test == "prefix":
        return bool(value.startswith(wanted[0]))
    return (value in wanted) == (item.test == "in")


def _path_holds(item: Condition, path: str, values: list[str]) -> bool:
    if item.test == "prefix":
        return has_prefix(path, values[0])
    return (path in values) == (item.test == "in")


def holds(item: Condition, request: HttpRequest, *, grant: bool) -> bool:
    """Whether the request satisfies the item; `grant`: for an Allow, where every value must [V2, V5]."""
    if item.subject == "method":
        return (request.method in item.values) == (item.test == "in")
    if item.subject == "host":
        known = any(host_matches(pattern, request.host) for pattern in item.values)
        return known == (item.test == "in")
    if item.subject == "path":
        alike = _path_holds(item, folded(request.path), [folded(value) for value in item.values])
        return _path_holds(item, request.path, item.values) or (alike and not grant)
    values: list[Any]
    if item.subject == "header":
        values = list(header_values(request, item.name, elements=not grant))
    else:
        values = list(query_values(request, item.name))
    if item.test in ("exists", "absent"):
        return bool(values) == (item.test == "exists")
    if not values:
        return item.test == "notIn"
    quantifier = all if grant else any
    return quantifier(_value_holds(item, value) for value in values)
