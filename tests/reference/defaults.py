"""MeshDefaults, read field by field [W6, U4], and how defaults meet [W4]."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.reference.conditions import conditions
from tests.reference.identity import Identities, form, spiffe_id
from tests.reference.reading import (
    Block,
    Unreadable,
    blocks,
    choice,
    duration_seconds,
    fields,
    instant,
    integer,
    items,
    network,
    text,
)
from tests.reference.rows import CLUSTER, Row

ACCESS = (
    "deny",
    "audit",
    "all-authenticated",
    "cluster-authenticated",
    "all-unauthenticated",
    "cluster-unauthenticated",
)
CLUSTER_NETWORKS = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
OPAQUE_PORTS = (25, 587, 3306, 4444, 5432, 6379, 9300, 11211)
NAME = "meshdefaults.policyd.dev/default"


def meet(one: str, other: str) -> str:
    """What both grant; `audit` meets `all-unauthenticated` to `audit`, and anything narrower to that [W4]."""
    if "deny" in (one, other):
        return "deny"
    if one == "audit":
        return "audit" if other == "all-unauthenticated" else other
    if other == "audit":
        return meet(other, one)
    cluster = one.startswith("cluster-") or other.startswith("cluster-")
    identity = one.endswith("-authenticated") or other.endswith("-authenticated")
    return ("cluster-" if cluster else "all-") + ("authenticated" if identity else "unauthenticated")


@dataclass
class Revocation:
    """Exactly one of the first three [I9]; `issued_before` in milliseconds, or whenever issued."""

    identity: str | None = None
    pod_uid: str | None = None
    certificate: str | None = None
    issued_before: int | None = None


@dataclass
class MeshDefaults:
    default_access: str = "deny"
    max_default: str = "all-unauthenticated"
    cluster_networks: list[Block] = field(default_factory=list)
    probe_networks: list[Block] = field(default_factory=list)
    trusted_labels: list[str] = field(default_factory=list)
    opaque_ports: list[int] = field(default_factory=list)
    external: list[tuple[str, list[str]]] = field(default_factory=list)
    revoked: list[Revocation] = field(default_factory=list)
    max_table_age: int = 0
    rows: list[Row] = field(default_factory=list)


def _networks(value: Any) -> list[Block]:
    return [(network(item), []) for item in items(value, least=0)]


def _external(value: Any) -> list[tuple[str, list[str]]]:
    entries = [fields(item, "namespace", "identities") for item in items(value, least=0)]
    return [
        (text(one.get("namespace")), [spiffe_id(each) for each in items(one.get("identities"))])
        for one in entries
    ]


def _revocation(value: Any) -> Revocation:
    entry = fields(value, "identity", "podUID", "certificateSHA256", "issuedBefore")
    named = [key for key in entry if key != "issuedBefore"]
    if len(named) != 1:
        raise Unreadable("revoked: exactly one of identity, podUID and certificateSHA256")
    before = instant(entry["issuedBefore"]) if "issuedBefore" in entry else None
    identity = spiffe_id(entry["identity"]) if "identity" in entry else None
    return Revocation(identity, entry.get("podUID"), entry.get("certificateSHA256"), before)


def _revocations(value: Any) -> list[Revocation]:
    """Item by item: what can be read of a revocation list counts, whatever stands beside it."""
    found = []
    for item in value if isinstance(value, list) else []:
        try:
            found.append(_revocation(item))
        except Unreadable:
            continue
    return found


def read_defaults(document: dict[str, Any] | None) -> MeshDefaults:
    """The one named `default`; None: there is none and everything has its default."""
    spec = (document or {}).get("spec")
    spec = {key: value for key, value in spec.items() if value is not None} if isinstance(spec, dict) else {}

    def one(key: str, read: Callable[[Any], Any], absent: Any, unreadable: Any) -> Any:
        try:
            return read(spec[key]) if key in spec else absent
        except Unreadable:
            return unreadable

    access = lambda value: choice(value, *ACCESS)  # noqa: E731
    ports = lambda value: [integer(item, 1, 65535) for item in items(value, least=0)]  # noqa: E731
    names = lambda value: [text(item) for item in items(value, least=0)]  # noqa: E731
    cluster: list[Block] = [(network(item), []) for item in CLUSTER_NETWORKS]
    found = MeshDefaults(
        one("defaultAccess", access, "deny", "deny"),
        one("maxDefault", access, "all-unauthenticated", "deny"),
        one("clusterNetworks", _networks, cluster, cluster),
        one("probeNetworks", _networks, [], []),
        one("trustedNamespaceLabels", names, [], []),
        one("opaquePorts", ports, list(OPAQUE_PORTS), list(OPAQUE_PORTS)),
        one("externalIdentities", _external, [], []),
        _revocations(spec.get("revoked")),
        one("maxTableAge", duration_seconds, 0, 0),
    )
    for kind in ("deny", "require"):
        given = spec.get(kind, [])
        for index, item in enumerate(given if isinstance(given, list) else [given]):
            found.rows.append(_item(kind, index, item))
    return found


def _item(kind: str, index: int, value: Any) -> Row:
    """An item of `deny` or `require`; an unreadable one refuses everywhere [U4]."""
    entry = value if isinstance(value, dict) else {}
    name = entry.get("name")
    label = f"/{name}" if isinstance(name, str) and name else f"[{index}]"
    audit = entry.get("mode") == "Audit"
    age = (0, 0, "", "", NAME, kind, index)
    row = Row(f"{NAME}#{kind}{label}", kind.capitalize(), CLUSTER, age, audit)
    try:
        _read_item(row, value, kind)
    except Unreadable:
        return Row(row.name, "Refuse", CLUSTER, age, audit)
    return row


def _read_item(row: Row, value: Any, kind: str) -> None:
    known = ("name", "identities", "except", "networks", "when", "mode")
    entry = fields(value, *known, *(("withoutIdentity",) if kind == "deny" else ()))
    text(entry.get("name"))
    choice(entry.get("mode", "Enforce"), "Enforce", "Audit")
    if "identities" not in entry and ("networks" not in entry or "except" in entry):
        raise Unreadable("neither identities nor networks [I7]")
    if "identities" in entry:
        without = [form(item) for item in items(entry.get("except", []), least=0)]
        row.identities = Identities([form(item) for item in items(entry["identities"])], without)
    if "networks" in entry:
        row.blocks = blocks(entry["networks"])
    row.conditions = conditions(entry.get("when", []))
    if kind == "deny":
        wanted = choice(
            entry.get("withoutIdentity", None if row.identities else "Ignore"), "Refuse", "Ignore"
        )
        row.anonymous_too = wanted == "Refuse" and row.identities is not None
