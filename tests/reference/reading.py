"""Strict reading of plain YAML values: what isn't exactly as described is `Unreadable` [U1, I7]."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

Labels = Mapping[str, str]
Selector = Callable[[Labels], bool]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Unreadable(ValueError):  # noqa: N818 - the word of the semantics
    """A value that a policy doesn't allow here."""


def fields(value: Any, *known: str) -> dict[str, Any]:
    """A mapping without unknown keys; a null is a field that isn't there."""
    if not isinstance(value, dict):
        raise Unreadable(f"{value!r}: expected a mapping")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise Unreadable(f"unknown field {unknown[0]!r}")
    return {key: item for key, item in value.items() if item is not None}


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{value!r}: expected a string")
    return value


def choice(value: Any, *known: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise Unreadable(f"{value!r}: expected one of {known}")
    return value


def items(value: Any, least: int = 1) -> list[Any]:
    """A list; empty is never a wildcard [I7], so at least one item unless the caller says so."""
    if not isinstance(value, list) or len(value) < least:
        raise Unreadable(f"{value!r}: expected a list of at least {least}")
    return value


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable(f"{value!r}: expected true or false")
    return value


def integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Unreadable(f"{value!r}: expected a number from {low} to {high}")
    return value


def instant(value: Any) -> int:
    """Milliseconds since the epoch of an RFC 3339 time (YAML may already have made it a datetime)."""
    if isinstance(value, str) and RFC3339.fullmatch(value):
        value = datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise Unreadable(f"{value!r}: expected an RFC 3339 time")
    return round(value.timestamp() * 1000)


def network(value: Any) -> Network:
    """A CIDR or a bare address; IPv4-mapped IPv6 counts as IPv4 [W5]."""
    try:
        found = ipaddress.ip_network(text(value), strict=False)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(MAPPED):
        inner = int(found.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((inner, found.prefixlen - 96))
    return found


def address(value: str) -> Address:
    """A peer's address, IPv4-mapped IPv6 counted as IPv4 [W5]."""
    found = ipaddress.ip_address(value)
    return getattr(found, "ipv4_mapped", None) or found


Block = tuple[Network, list[Network]]


def blocks(value: Any) -> list[Block]:
    """`networks`: CIDRs with exceptions, each inside its CIDR and not all of it."""
    found = []
    for item in items(value):
        entry = fields(item, "cidr", "except")
        cidr = network(entry.get("cidr"))
        holes = [network(hole) for hole in items(entry.get("except", []), least=0)]
        for hole in holes:
            if hole.version != cidr.version or not hole.subnet_of(cidr) or hole == cidr:  # type: ignore[arg-type]
                raise Unreadable(f"except {hole} is not a part of {cidr}")
        found.append((cidr, holes))
    return found


def in_blocks(peer: Address, networks: list[Block]) -> bool:
    return any(peer in cidr and not any(peer in hole for hole in holes) for cidr, holes in networks)


def _expression(value: Any) -> Selector:
    entry = fields(value, "key", "operator", "values")
    key = text(entry.get("key"))
    operator = choice(entry.get("operator"), "In", "NotIn", "Exists", "DoesNotExist")
    if operator in ("Exists", "DoesNotExist"):
        if entry.get("values"):
            raise Unreadable(f"{operator} with values")
        return (lambda labels: key in labels) if operator == "Exists" else (lambda labels: key not in labels)
    values = [text(item) if item != "" else "" for item in items(entry.get("values"))]
    if operator == "In":
        return lambda labels: labels.get(key) in values
    return lambda labels: key not in labels or labels[key] not in values


def selector(value: Any) -> Selector:
    """A label selector; `{}` matches all [W2]."""
    entry = fields(value, "matchLabels", "matchExpressions")
    wanted = entry.get("matchLabels", {})
    if not isinstance(wanted, dict) or not all(isinstance(item, str) for item in wanted.values()):
        raise Unreadable("matchLabels: expected a mapping of strings")
    tests = [_expression(item) for item in items(entry.get("matchExpressions", []), least=0)]
    return lambda labels: (
        all(labels.get(key) == item for key, item in wanted.items()) and all(test(labels) for test in tests)
    )


def selector_keys(value: Any) -> set[str]:
    """The label keys that a readable selector looks at."""
    entry = fields(value, "matchLabels", "matchExpressions")
    return set(entry.get("matchLabels", {})) | {item["key"] for item in entry.get("matchExpressions", [])}


def duration_seconds(value: Any) -> int:
    """A Go duration of whole hours, minutes and seconds."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text(value))
    if not found:
        raise Unreadable(f"{value!r}: expected a duration")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
