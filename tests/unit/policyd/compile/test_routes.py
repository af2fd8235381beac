"""Routes as rows, and where they hang."""

import pytest

from policyd.compile.rows import Effect, Level, Match, PathTest, RouteKind, Scope
from tests.unit.policyd.compile.worlds import (
    DEPLOYMENT,
    ROUTE,
    SERVER,
    WEB,
    compiled,
    policy,
    port,
    rules,
    server,
)

GRPC = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: http}]
  rules:
  - matches: [{method: {service: a.B, method: C}}, {method: {service: a.B}}, {method: {method: C}}]
  - {}
"""


@pytest.mark.shows("R2")
def test_a_grpc_route_is_told_by_its_paths() -> None:
    (route,) = compiled(DEPLOYMENT, SERVER, GRPC).tables[WEB].workload.routes
    assert route.kind is RouteKind.GRPC
    assert [match for rule in route.rules for match in rule.matches] == [
        Match(PathTest.EXACT, "/a.B/C"),
        Match(PathTest.PREFIX, "/a.B"),
        Match(PathTest.LAST_SEGMENT, "C"),
        Match(PathTest.PREFIX, "/"),
    ]


@pytest.mark.shows("R1")
@pytest.mark.parametrize(
    ("protocol", "attached"),
    [("unknown", 2), ("HTTP/1", 2), ("HTTP/2", 2), ("gRPC", 1), ("opaque", 0), ("TLS", 0)],
)
def test_which_routes_a_protocol_takes(protocol: str, attached: int) -> None:
    found = compiled(DEPLOYMENT, server("http", f", proxyProtocol: {protocol}"), ROUTE, GRPC)
    assert len(port(found, 8080).routes) == attached


@pytest.mark.shows("R1")
@pytest.mark.parametrize("parent", ["namespace: shop, name: http", "name: other"])
def test_a_route_hangs_on_named_servers_of_its_own_namespace(parent: str) -> None:
    assert (
        port(compiled(DEPLOYMENT, SERVER, ROUTE.replace("name: http}]", f"{parent}}}]")), 8080).routes == ()
    )


@pytest.mark.shows("U5", "R5")
def test_an_unreadable_route_refuses_who_selects_it_and_an_unreadable_match_everybody() -> None:
    filtered = ROUTE.replace("rules: [{", "rules: [{filters: [{type: RequestMirror}], ")
    strange = ROUTE.replace("value: /read", "type: Glob, value: /read")
    for text, scope in ((filtered, Scope.ROUTE_SELECTED), (strange, Scope.HTTP)):
        (rule,) = rules(compiled(DEPLOYMENT, SERVER, text), 8080)
        assert (rule.effect, rule.level, rule.scope) == (Effect.REFUSE, Level.ROUTE, scope)


@pytest.mark.shows("V7")
def test_more_regular_expressions_than_a_server_can_have_are_unreadable() -> None:
    def route(name: str) -> str:
        match = "{path: {type: RegularExpression, value: /a.*}}"
        return ROUTE.replace("name: read,", f"name: {name},").replace(
            "[{matches: [{path: {value: /read}}]}]", f"[{{matches: [{', '.join([match] * 40)}]}}]"
        )

    found = compiled(DEPLOYMENT, SERVER, route("a"), route("b"))
    assert [(rule.scope, rule.authorization.rpartition("/")[2]) for rule in rules(found, 8080)] == [
        (Scope.HTTP, "b")
    ]


@pytest.mark.shows("T3")
def test_policies_of_a_route_on_opaque_servers_only_refuse_everything_there() -> None:
    opaque = server("http", ", proxyProtocol: opaque")
    guards = [
        policy("a", "", target="HTTPRoute/read"),
        policy("b", ", action: Deny", target="HTTPRoute/read"),
    ]
    (rule,) = rules(compiled(DEPLOYMENT, opaque, ROUTE, *guards), 8080)
    assert (rule.effect, rule.level, rule.scope) == (Effect.REFUSE, Level.ROUTE, Scope.PORT)
    elsewhere = ROUTE.replace(
        "name: http}]", "name: http}, {group: policyd.dev, kind: Server, name: second}]"
    )
    second = server("second").replace("port: http", "port: 9090")
    found = compiled(DEPLOYMENT, opaque, second, elsewhere, *guards)
    assert rules(found, 8080) == []
    assert {each.effect for each in rules(found, 9090)} == {Effect.ALLOW, Effect.DENY}
