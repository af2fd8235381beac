"""Which features of the semantics a (world, question) pair exercises, on the port asked for."""

from collections.abc import Iterator
from typing import Any

from tests.reference.evaluate import HEALTH_CHECK
from tests.reference.policytest import ask, peer_of
from tests.reference.ports import ACCESS_ANNOTATIONS, Port, port_of
from tests.reference.reading import address, in_blocks
from tests.reference.rows import CLUSTER, NAMESPACE, ROUTE, SERVER, Row
from tests.reference.world import World

LEVELS = {ROUTE: "route", SERVER: "server", NAMESPACE: "namespace", CLUSTER: "cluster"}

ROWS = frozenset(
    [f"{effect} at {level}" for effect in ("Allow", "Deny", "Require", "Refuse") for level in LEVELS.values()]
    + [f"when {subject}" for subject in ("header", "query", "path", "method", "host")]
    + [f"test {test}" for test in ("in", "notIn", "prefix", "exists", "absent")]
    + [
        "audit Allow",
        "audit Deny",
        "audit Require",
        "expired grant",
        "grant with an end",
        "except",
        "identities",
    ]
    + ["networks", "empty set", "anonymous too", "ServerAuthorization", "path on a request with another form"]
) - {"Allow at cluster"}
PORTS = frozenset(
    [f"access {one}" for one in ("deny", "audit", "all-authenticated", "cluster-authenticated")]
    + [
        "access all-unauthenticated",
        "access cluster-unauthenticated",
        "annotated default",
        "no Server",
        "two Servers",
    ]
    + [f"protocol {one}" for one in ("unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS")]
    + ["path mode merge", "Linkerd's Server", "unreadable Server", "HTTPRoute", "GRPCRoute", "hostnames"]
    + [
        "regular expression",
        "method match",
        "header match",
        "query match",
        "last segment",
        "unreadable route",
    ]
)
REQUESTS = frozenset(
    [f"peer {one}" for one in ("own", "foreign", "none")]
    + [f"HTTP {one}" for one in ("1.0", "1.1", "2")]
    + [
        "gRPC",
        "bytes",
        "silence",
        "TLS",
        "raw head",
        "two values",
        "comma",
        "parameters",
        "upper case",
        "probe",
    ]
    + ["health check", "from the node", "IPv6", "let through unread", "external workload"]
)
REASONS = frozenset(
    {"allowed", "explicit_deny", "requirement_not_met", "no_matching_rule", "no_identity", "no_route"}
    | {"invalid_request", "protocol_refused", "policy_unreadable", "no_policy_loaded", "policy_stale"}
    | {"peer_rejected", "audit differs", "near miss"}
)
ALL = ROWS | PORTS | REQUESTS | REASONS


def features(world: World, body: dict[str, Any], at: int, pod: dict[str, Any]) -> set[str]:
    """The features of one pair; `body` as PolicyTest has a case."""
    reference, _, number = body["to"].rpartition(":")
    workload = world.workload(reference)
    port = port_of(world, workload, int(number))
    found = {feature for row in port.rows for feature in _of_row(row, at)}
    found |= set(_of_port(world, port)) | set(_of_routes(port)) | set(_of_request(body, world, port))
    annotations = {**world.annotations.get("n", {}), **workload.annotations}
    if not port.server and set(ACCESS_ANNOTATIONS) & set(annotations):
        found.add("annotated default")
    if workload.external:
        found.add("external workload")
    elif sum(one.owns(workload, port.number) for one in world.servers) > 1:
        found.add("two Servers")
    decision = ask(world, body, at, pod)
    found.add(decision["reason"].split(":")[0])
    if decision["audit"]:
        found.add("audit differs")
        if decision["verdict"] == "allow" and decision["audit"]["reason"].startswith(
            ("invalid_request", "protocol")
        ):
            found.add("let through unread")
    if decision["nearMisses"]:
        found.add("near miss")
    return found


def _of_row(row: Row, at: int) -> Iterator[str]:
    yield f"{row.effect} at {LEVELS[row.level]}"
    yield from (f"when {item.subject}" for item in row.conditions)
    yield from (f"test {item.test}" for item in row.conditions)
    if row.audit and row.effect != "Refuse":
        yield f"audit {row.effect}"
    if row.valid_until is not None:
        yield "expired grant" if row.expired(at) else "grant with an end"
    if row.blocks is not None:
        yield "networks"
    if row.identities:
        yield "identities" if row.identities.any_of else "empty set"
        if row.identities.without:
            yield "except"
    if row.anonymous_too:
        yield "anonymous too"
    if row.name.startswith("serverauthorization."):
        yield "ServerAuthorization"


def _of_port(world: World, port: Port) -> Iterator[str]:
    yield f"access {port.access}"
    yield f"protocol {port.protocol}"
    if not port.server:
        yield "no Server"
        return
    if port.server.path_mode == "merge":
        yield "path mode merge"
    if port.server.group == "policy.linkerd.io":
        yield "Linkerd's Server"
    if not port.server.readable:
        yield "unreadable Server"


def _of_routes(port: Port) -> Iterator[str]:
    for route in port.routes:
        yield "GRPCRoute" if route.grpc else "HTTPRoute"
        if route.hosts:
            yield "hostnames"
        if route.unreadable:
            yield "unreadable route"
        for match in (match for rule in route.rules for match in rule):
            if match.regexes():
                yield "regular expression"
            if match.method and not route.grpc:
                yield "method match"
            if match.headers:
                yield "header match"
            if match.query:
                yield "query match"
            if match.path_test == "last":
                yield "last segment"


def _of_request(body: dict[str, Any], world: World, port: Port) -> Iterator[str]:
    peer = peer_of(body["from"])
    own = peer.identity is not None and peer.identity.startswith("spiffe://cluster.local/")
    yield "peer own" if own else "peer foreign" if peer.identity else "peer none"
    if ":" in body["from"]["ip"]:
        yield "IPv6"
    if peer.address == address("10.0.0.1") or in_blocks(peer.address, world.defaults.probe_networks):
        yield "from the node"
    if "tcp" in body:
        yield "silence" if body["tcp"].get("silent") else "bytes"
    elif "tls" in body:
        yield "TLS"
    elif "grpc" in body:
        yield "gRPC"
        if f"/{body['grpc']['service']}/{body['grpc']['method']}" == HEALTH_CHECK:
            yield "health check"
    elif "raw" in body["http"]:
        yield "raw head"
    else:
        yield from _of_http(body["http"], port)


def _of_http(http: dict[str, Any], port: Port) -> Iterator[str]:
    yield f"HTTP {http['version']}"
    if http["path"] in [probe.target for probe in port.probes]:
        yield "probe"
    names = [name.lower() for name, _ in http["headers"]]
    if names.count("x-env") > 1 or http["path"].count("k=") > 1:
        yield "two values"
    if any("," in value for _, value in http["headers"]):
        yield "comma"
    parameters, upper = ";" in http["path"], http["path"] != http["path"].lower()
    if parameters:
        yield "parameters"
    if upper:
        yield "upper case"
    read = any(item.subject == "path" for row in port.rows for item in row.conditions)
    if (parameters or upper) and read:
        yield "path on a request with another form"
