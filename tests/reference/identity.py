"""Identities: SPIFFE IDs, the `*` forms, Linkerd's DNS names [I1-I4]."""

import re
from dataclasses import dataclass, field
from typing import Any

from tests.reference.reading import Unreadable, fields, items, text

TRUST_DOMAIN = "cluster.local"
_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_DNS_MARK = ".serviceaccount.identity."


def of_account(namespace: str, name: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{name}"


def of_namespace(namespace: str) -> str:
    return of_account(namespace, "*")


def domain_of(identity: str) -> str:
    return identity.removeprefix("spiffe://").split("/")[0]


def spiffe_id(value: Any) -> str:
    """A whole SPIFFE ID of a workload, byte for byte [I1]."""
    given = text(value)
    domain, _, path = given.removeprefix("spiffe://").partition("/")
    segments = path.split("/")
    if not given.startswith("spiffe://") or len(given) > 2048 or not _DOMAIN.fullmatch(domain):
        raise Unreadable(f"{given!r} is no SPIFFE ID")
    if any(part in (".", "..") or not _SEGMENT.fullmatch(part) for part in segments):
        raise Unreadable(f"{given!r} is no SPIFFE ID")
    return given


def form(value: Any) -> str:
    """An identity as policies write it: `*`, a SPIFFE ID or one with a whole `*` part, or a DNS name."""
    given = text(value)
    if given == "*":
        return given
    if not given.startswith("spiffe://"):
        return _from_dns(given)
    if given.endswith("/*"):
        path = given.removeprefix("spiffe://").partition("/")[2]
        parts = path.split("/")
        whole = parts == ["*"] or (len(parts) == 4 and parts[0] == "ns" and parts[2] == "sa")
        if not whole:
            raise Unreadable(f"{given!r}: `*` stands for one whole part only")
        spiffe_id(given[:-1] + "x")
        return given
    return spiffe_id(given)


def _from_dns(given: str) -> str:
    left, mark, right = given.partition(_DNS_MARK)
    account, _, namespace = left.rpartition(".")
    control_plane, _, domain = right.partition(".")
    names = [namespace, control_plane, *(account.split(".") if account != "*" else [])]
    if not mark or not _DOMAIN.fullmatch(domain) or not all(_LABEL.fullmatch(name) for name in names):
        raise Unreadable(f"{given!r} is neither a SPIFFE ID nor a name of a service account")
    return f"spiffe://{domain}/ns/{namespace}/sa/{account}"


def references(value: Any, default_namespace: str) -> list[str]:
    """`identityRefs`: ServiceAccounts and Namespaces, which needn't exist [I5]."""
    found = []
    for item in items(value):
        entry = fields(item, "group", "kind", "name", "namespace")
        kind, name = entry.get("kind"), text(entry.get("name"))
        if entry.get("group", "") not in ("", "core"):
            raise Unreadable("identityRefs: group")
        if kind == "ServiceAccount":
            found.append(of_account(text(entry.get("namespace", default_namespace)), name))
        elif kind == "Namespace" and "namespace" not in entry:
            found.append(of_namespace(name))
        else:
            raise Unreadable(f"identityRefs: {kind!r}")
    return found


def matches_form(one: str, identity: str, *, star_is_any: bool) -> bool:
    if one == "*":
        return star_is_any or domain_of(identity) == TRUST_DOMAIN
    if not one.endswith("/*"):
        return one == identity
    stem = one[:-1]
    if stem.count("/") == 3:
        return identity.startswith(stem)
    rest = identity.removeprefix(stem)
    return rest != identity and "/" not in rest


@dataclass
class Identities:
    """Who an authentication names: what is listed, without what is excepted [I4]."""

    any_of: list[str]
    without: list[str] = field(default_factory=list)

    def contain(self, identity: str | None, *, star_is_any: bool = False) -> bool:
        """`star_is_any`: in a Deny, `*` is every verified identity of any trust domain [I2]."""
        if identity is None:
            return False
        return any(matches_form(one, identity, star_is_any=star_is_any) for one in self.any_of) and not any(
            matches_form(one, identity, star_is_any=False) for one in self.without
        )
