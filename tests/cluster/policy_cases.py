"""Every kind of policy, and what it does to three callers of one server: data for `test_policies.py`.

`web` and `bot` are meshed, each with an identity of its own; `plain` isn't. Without a policy all three get
through, since an install begins in `audit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cluster.manifests import GRPC, HTTP, TCP

Object = dict[str, Any]
Outcome = tuple[str, str, object]
"""Who asks, what (a path, a gRPC method or `tcp`), and what comes of it: a status, bytes, or None."""

OURS, LINKERDS, GATEWAYS = "policyd.dev/v1alpha1", "policy.linkerd.io", "gateway.networking.k8s.io/v1"
HOST = "server.shop.svc"
PING = "ping"
METHODS = ("Read", "Write")


def asked(what: str) -> Object:
    """Return what an agent is told, for a path, a gRPC method or `tcp`."""
    if what == "tcp":
        return {"do": "tcp", "host": HOST, "port": TCP, "send": PING}
    if what in METHODS:
        return {"do": "grpc", "address": f"{HOST}:{GRPC}", "service": "tests.v1.Service", "method": what}
    return {"do": "get", "url": f"http://{HOST}:{HTTP}{what}", "timeout": 5.0}


@dataclass(frozen=True)
class Case:
    """Objects, and what they do. `make` gets the address of web's pod."""

    name: str
    make: Callable[[str], list[Object]]
    outcomes: tuple[Outcome, ...]
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    """Of denials, by who asked and what: the reason that the record has."""


def _object(api: str, kind: str, name: str, **spec: Any) -> Object:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def _server(api: str = OURS, port: str = "http", protocol: str = "HTTP/1", **more: Any) -> Object:
    selector = {"matchLabels": {"app": "server"}}
    return _object(api, "Server", port, podSelector=selector, port=port, proxyProtocol=protocol, **more)


def _target(kind: str = "Server", name: str = "http", api: str = OURS) -> Object:
    return {"group": api.partition("/")[0], "kind": kind, "name": name}


def _policy(
    *who: Object, api: str = OURS, target: Object | None = None, name: str = "policy", **more: Any
) -> Object:
    target = target or _target(api=api)
    refs = list(who)
    return _object(
        api, "AuthorizationPolicy", name, targetRef=target, requiredAuthenticationRefs=refs, **more
    )


def _account(name: str) -> Object:
    return {"kind": "ServiceAccount", "name": name}


def _named(kind: str, name: str, api: str = OURS) -> Object:
    return {"group": api.partition("/")[0], "kind": kind, "name": name}


def _http_route(name: str, prefix: str, api: str = GATEWAYS, parent: str = OURS) -> Object:
    matches = [{"path": {"type": "PathPrefix", "value": prefix}}]
    return _object(api, "HTTPRoute", name, parentRefs=[_target(api=parent)], rules=[{"matches": matches}])


def _linkerd(version: str) -> str:
    return f"{LINKERDS}/{version}"


def _linkerds_route(_: str) -> list[Object]:
    server, alpha = _linkerd("v1beta3"), _linkerd("v1alpha1")
    identities = ["web.shop.serviceaccount.identity.linkerd.cluster.local"]
    return [
        _server(server),
        _http_route("a", "/a", server, server),
        _object(alpha, "MeshTLSAuthentication", "web", identities=identities),
        _object(alpha, "NetworkAuthentication", "pods", networks=[{"cidr": "10.244.0.0/16"}]),
        _policy(
            _named("MeshTLSAuthentication", "web", alpha),
            _named("NetworkAuthentication", "pods", alpha),
            api=alpha,
            target=_target("HTTPRoute", "a", server),
        ),
    ]


def _grpc_route(_: str) -> list[Object]:
    method = {"service": "tests.v1.Service", "method": "Read"}
    rules = [{"matches": [{"method": method}]}]
    return [
        _server(port="grpc", protocol="gRPC"),
        _object(GATEWAYS, "GRPCRoute", "read", parentRefs=[_target(name="grpc")], rules=rules),
        _policy(_account("web"), target=_target("GRPCRoute", "read", GATEWAYS)),
    ]


def _server_authorization(_: str) -> list[Object]:
    client = {"meshTLS": {"serviceAccounts": [{"name": "web"}]}}
    authorization = _object(
        _linkerd("v1beta1"), "ServerAuthorization", "web", server={"name": "http"}, client=client
    )
    return [_server(_linkerd("v1beta3")), authorization]


def _for_a_while(_: str) -> list[Object]:
    until = datetime.now(UTC) + timedelta(seconds=4)
    return [_server(), _policy(_account("web"), validUntil=f"{until:%Y-%m-%dT%H:%M:%SZ}")]


OPEN = {"accessPolicy": "all-unauthenticated"}
CASES = (
    Case(
        "a-server-denies",
        lambda _: [_server()],
        (("web", "/a", 403), ("plain", "/a", 403), ("web", "Read", 0), ("web", "tcp", PING)),
        {("web", "/a"): "no_matching_rule"},
    ),
    Case(
        "allow-an-account",
        lambda _: [_server(), _policy(_account("web"))],
        (("web", "/a", 200), ("bot", "/a", 403), ("plain", "/a", 403)),
        {("bot", "/a"): "no_matching_rule", ("plain", "/a"): "no_identity"},
    ),
    Case(
        "allow-by-mesh-tls-authentication",
        lambda _: [
            _server(),
            _object(
                OURS,
                "MeshTLSAuthentication",
                "all",
                identities=["*"],
                **{"except": {"identityRefs": [_account("bot")]}},
            ),
            _policy(_named("MeshTLSAuthentication", "all")),
        ],
        (("web", "/a", 200), ("bot", "/a", 403), ("plain", "/a", 403)),
    ),
    Case(
        "allow-by-network-authentication",
        lambda web: [
            _server(),
            _object(OURS, "NetworkAuthentication", "web", networks=[{"cidr": f"{web}/32"}]),
            _policy(_named("NetworkAuthentication", "web")),
        ],
        (("web", "/a", 200), ("bot", "/a", 403), ("plain", "/a", 403)),
    ),
    Case(
        "deny",
        lambda _: [_server(**OPEN), _policy(_account("bot"), action="Deny")],
        (("web", "/a", 200), ("bot", "/a", 403), ("plain", "/a", 403)),
        {("bot", "/a"): "explicit_deny", ("plain", "/a"): "no_identity"},
    ),
    Case(
        "require",
        lambda _: [
            _server(**OPEN),
            _object(OURS, "MeshTLSAuthentication", "all", identities=["*"]),
            _policy(_named("MeshTLSAuthentication", "all"), action="Require"),
        ],
        (("web", "/a", 200), ("bot", "/a", 200), ("plain", "/a", 403)),
    ),
    Case(
        "deny-when-a-path-is-asked-for",
        lambda _: [
            _server(**OPEN),
            _policy(action="Deny", when=[{"path": {"prefix": "/admin"}}]),
        ],
        (("web", "/a", 200), ("web", "/admin/x", 403), ("web", "/ADMIN", 403)),
        {("web", "/admin/x"): "explicit_deny"},
    ),
    Case(
        "deny-a-namespace",
        lambda _: [_policy(_account("bot"), action="Deny", target=_target("Namespace", "shop", "/v1"))],
        (("web", "/a", 200), ("bot", "/a", 403), ("bot", "Read", 7), ("bot", "tcp", None)),
    ),
    Case(
        "http-route",
        lambda _: [
            _server(),
            _http_route("a", "/a"),
            _policy(_account("web"), target=_target("HTTPRoute", "a", GATEWAYS)),
        ],
        (("web", "/a/b", 200), ("web", "/b", 404), ("bot", "/a", 403)),
        {("web", "/b"): "no_route", ("bot", "/a"): "no_matching_rule"},
    ),
    Case("grpc-route", _grpc_route, (("web", "Read", 0), ("web", "Write", 5), ("bot", "Read", 7))),
    Case(
        "tcp",
        lambda _: [
            _server(port="tcp", protocol="opaque"),
            _policy(_account("web"), target=_target(name="tcp")),
        ],
        (("web", "tcp", PING), ("bot", "tcp", None), ("plain", "tcp", None)),
    ),
    Case(
        "linkerds-server-authorization",
        _server_authorization,
        (("web", "/a", 200), ("bot", "/a", 403), ("plain", "/a", 403)),
    ),
    Case(
        "linkerds-policy-on-a-route",
        _linkerds_route,
        (("web", "/a", 200), ("web", "/b", 404), ("bot", "/a", 403), ("plain", "/a", 403)),
    ),
    Case("valid-until", _for_a_while, (("web", "/a", 200), ("bot", "/a", 403))),
)
