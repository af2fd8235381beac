"""The rows of a rule table: `proto/policyd/v1/snapshot.proto`, field by field.

Rows travel to the Rust side as JSON (`encode`), which sorts the lists whose order has no meaning, remaps the
indices, checks everything and writes the bytes. What this side answers for is the meaning and the order of
`rules`, `routes`, `RouteRule`s and matches.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

READER_VERSION = 1
"""What every reader knows; the Rust side raises it where a row needs a newer one (promise P-16)."""


class ConditionSubject(IntEnum):
    HEADER = 1
    QUERY = 2
    METHOD = 3
    HOST = 4
    PATH = 5


class ConditionTest(IntEnum):
    IN = 1
    NOT_IN = 2
    PREFIX = 3
    EXISTS = 4
    ABSENT = 5


class Effect(IntEnum):
    ALLOW = 1
    DENY = 2
    REQUIRE = 3
    REFUSE = 4


class Level(IntEnum):
    ROUTE = 1
    SERVER = 2
    NAMESPACE = 3
    CLUSTER = 4


class Scope(IntEnum):
    PORT = 1
    HTTP = 2
    ROUTE_SELECTED = 3
    ROUTE_MATCHED = 4


class Who(IntEnum):
    ANYONE = 1
    SET = 2


class RouteKind(IntEnum):
    HTTP = 1
    GRPC = 2


class PathTest(IntEnum):
    EXACT = 1
    PREFIX = 2
    REGEX = 3
    LAST_SEGMENT = 4


class ValueTest(IntEnum):
    EXACT = 1
    REGEX = 2


class Protocol(IntEnum):
    UNKNOWN = 1
    HTTP1 = 2
    HTTP2 = 3
    GRPC = 4
    OPAQUE = 5
    TLS = 6


class Access(IntEnum):
    DENY = 1
    AUDIT = 2
    ALL_UNAUTHENTICATED = 3
    ALL_AUTHENTICATED = 4
    CLUSTER_UNAUTHENTICATED = 5
    CLUSTER_AUTHENTICATED = 6


class PathMode(IntEnum):
    STRICT = 1
    MERGE = 2
    OPAQUE = 3


class ClusterConditions(IntEnum):
    EVALUATE = 1
    SATISFIED = 2
    PASS_OVER = 3


class ProbeKind(IntEnum):
    HTTP = 1
    TCP = 2
    GRPC = 3


class IdentitySet(msgspec.Struct, frozen=True):
    """Forms of I1, and `*` for any verified identity whatever. No form: nobody."""

    any_of: tuple[str, ...] = ()
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class NetworkBlock(msgspec.Struct, frozen=True):
    cidr: str
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class NetworkSet(msgspec.Struct, frozen=True):
    """No block: no address."""

    any_of: tuple[NetworkBlock, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    subject: ConditionSubject
    name: str
    test: ConditionTest
    values: tuple[str, ...]


class Pools(msgspec.Struct):
    identities: list[IdentitySet] = []
    networks: list[NetworkSet] = []
    conditions: list[Condition] = []


class Rule(msgspec.Struct, frozen=True):
    effect: Effect
    level: Level
    authorization: str
    origin: str
    audit: bool = False
    scope: Scope = Scope.PORT
    route: int = 0
    identity: Who = Who.ANYONE
    identities: int = 0
    anonymous_too: bool = False
    network: Who = Who.ANYONE
    networks: int = 0
    conditions: tuple[int, ...] = ()
    valid_until_millis: int = 0


class NamedMatch(msgspec.Struct, frozen=True):
    name: str
    test: ValueTest
    value: str


class Match(msgspec.Struct, frozen=True):
    path_test: PathTest
    path: str
    method: str = ""
    headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()


class RouteRule(msgspec.Struct, frozen=True):
    matches: tuple[Match, ...]


class Route(msgspec.Struct, frozen=True):
    name: str
    origin: str
    kind: RouteKind
    hosts: tuple[str, ...]
    rules: tuple[RouteRule, ...]


class Probe(msgspec.Struct, frozen=True, order=True):
    kind: ProbeKind
    target: str = ""
    headers: tuple[str, ...] = ()
    service: str = ""


class Port(msgspec.Struct, frozen=True):
    number: int
    protocol: Protocol
    server: str
    server_origin: str
    access: Access
    path_mode: PathMode
    websocket: bool
    cluster_conditions: ClusterConditions
    rules: tuple[int, ...]
    routes: tuple[int, ...]
    probes: tuple[Probe, ...]


class Revocation(msgspec.Struct, frozen=True):
    """Exactly one of the first three; `issued_before_millis` 0: whenever issued."""

    identity: str = ""
    pod_uid: str = ""
    certificate_sha256: str = ""
    issued_before_millis: int = 0


class ClusterPart(msgspec.Struct):
    reader_version: int
    trust_domain: str
    pools: Pools
    rules: list[Rule]
    revoked: list[Revocation]
    cluster_networks: list[str]
    probe_networks: list[str]
    max_table_age_seconds: int
    epoch: int


class WorkloadPart(msgspec.Struct):
    """`workload_shape` is the namespace: two shapes that enforce the same have the same bytes."""

    reader_version: int
    workload_shape: str
    pools: Pools
    rules: list[Rule]
    routes: list[Route]
    ports: list[Port]
    other: Port


def encode(part: ClusterPart | WorkloadPart) -> bytes:
    """Return the JSON that `policyd.engine.encode_cluster` and `encode_workload` take."""
    return msgspec.json.encode(part)
