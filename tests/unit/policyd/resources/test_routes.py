"""Routes: what can't be read of them (semantics U1, U5, R5)."""

# ruff: noqa: E501 - rows of tables stay on one line

from collections.abc import Callable
from typing import Any

import pytest

from policyd.resources.base import Resource, Unreadable
from policyd.resources.http_route import HTTPMatch, PathMatch
from policyd.resources.route import RouteSpec

SpecOf = Callable[[str, str, str], Resource[Any] | Unreadable]
GATEWAY, LINKERD = "gateway.networking.k8s.io/v1", "policy.linkerd.io/v1beta3"
PARENT = "parentRefs: [{group: policyd.dev, kind: Server, name: web}]"


def route(found: Resource[Any] | Unreadable) -> RouteSpec[Any]:
    assert isinstance(found, Resource)
    return found.spec


def http(spec_of: SpecOf, spec: str, version: str = GATEWAY) -> RouteSpec[Any]:
    return route(spec_of(version, "HTTPRoute", spec))


def test_a_readable_route(spec_of: SpecOf) -> None:
    spec = f"{{{PARENT}, hostnames: [b.example, '*.a.example'], rules: [{{name: r, matches: [{{path: {{value: /a/}}, method: GET}}]}}]}}"
    found = http(spec_of, spec)
    assert found.readable
    assert not found.match_unreadable
    assert [key.text for key in found.servers("books")] == ["server.policyd.dev/books/web"]
    assert found.hostnames == ("*.a.example", "b.example")
    assert found.rules[0].matches[0] == HTTPMatch.model_construct(
        path=PathMatch(type="PathPrefix", value="/a"), method="GET", headers=(), query_params=()
    )


def test_no_rules_and_no_matches_are_every_request(spec_of: SpecOf) -> None:
    assert [rule.matches for rule in http(spec_of, f"{{{PARENT}}}").rules] == [()]
    assert [rule.matches for rule in http(spec_of, f"{{{PARENT}, rules: [{{}}]}}").rules] == [()]
    assert http(spec_of, f"{{{PARENT}, rules: []}}").rules == ()
    assert http(spec_of, f"{{{PARENT}, rules: [{{matches: [{{}}]}}]}}").rules[0].matches[0].path.value == "/"


MATCHES = [
    pytest.param("{path: {value: a}}", id="relative"),
    pytest.param("{path: {value: /a/../b}}", id="dots"),
    pytest.param("{path: {type: Glob, value: /a}}", id="type"),
    pytest.param("{path: {type: RegularExpression, value: '(?=a)'}}", id="PC-04-look-ahead"),
    pytest.param("{path: {type: RegularExpression, value: '(a)\\1'}}", id="PC-04-back-reference"),
    pytest.param(f"{{path: {{type: RegularExpression, value: {'a' * 1025}}}}}", id="V7-too-long"),
    pytest.param(
        f"{{headers: [{{name: a, type: RegularExpression, value: {'b' * 1025}}}]}}", id="V7-header-too-long"
    ),
    pytest.param("{path: {type: RegularExpression, value: '.{0,1000}{0,1000}'}}", id="PC-04-too-big"),
    pytest.param("{headers: [{name: connection, value: a}]}", id="reserved-header"),
    pytest.param("{headers: [{name: 'a b', value: a}]}", id="no-token"),
    pytest.param("{queryParams: [{name: a, type: RegularExpression, value: '['}]}", id="query-pattern"),
    pytest.param("{method: get}", id="lower-case-method"),
    pytest.param("{colour: red}", id="U1-unknown-field"),
    pytest.param("{path: {value: /a, colour: red}}", id="U1-unknown-field-at-depth"),
    pytest.param("text", id="text"),
]


@pytest.mark.shows("U5")
@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("version", [GATEWAY, LINKERD])
def test_an_unreadable_match_is_flagged(spec_of: SpecOf, match: str, version: str) -> None:
    found = http(spec_of, f"{{{PARENT}, rules: [{{matches: [{{path: {{value: /ok}}}}, {match}]}}]}}", version)
    assert found.match_unreadable
    assert not found.readable
    assert found.rules[0].unreadable_matches == (1,)
    assert len(found.rules[0].matches) == 1


@pytest.mark.shows("R5")
@pytest.mark.parametrize("kind", ["RequestMirror", "URLRewrite", "ExtensionRef", "Nonsense"])
@pytest.mark.parametrize("version", [GATEWAY, LINKERD])
def test_a_filter_that_is_not_implemented(spec_of: SpecOf, kind: str, version: str) -> None:
    found = http(spec_of, f"{{{PARENT}, rules: [{{filters: [{{type: {kind}}}]}}]}}", version)
    assert not found.readable
    assert not found.match_unreadable


@pytest.mark.shows("U1")
@pytest.mark.parametrize(
    "spec",
    [
        f"{{{PARENT}, colour: red}}",
        f"{{{PARENT}, rules: [{{colour: red}}]}}",
        "{parentRefs: [{group: policyd.dev, kind: Server, name: web, colour: red}]}",
        f"{{{PARENT}, rules: [{{backendRefs: [{{name: a, port: 1, colour: red}}]}}]}}",
    ],
)
def test_other_unknown_fields_are_findings_on_gateways_routes_only(spec_of: SpecOf, spec: str) -> None:
    gateway = spec_of(GATEWAY, "HTTPRoute", spec)
    assert route(gateway).readable
    assert [(finding.severity, finding.code) for finding in gateway.findings] == [
        ("warning", "unknown-field")
    ]
    linkerd = spec_of(LINKERD, "HTTPRoute", spec)
    assert not route(linkerd).readable
    assert [finding.severity for finding in linkerd.findings] == ["error"]


@pytest.mark.parametrize("host", ["10.0.0.1:80", "A.example", "*", "a..b"])
def test_an_unreadable_host_could_be_any(spec_of: SpecOf, host: str) -> None:
    found = http(spec_of, f"{{{PARENT}, hostnames: ['{host}', ok.example]}}")
    assert found.match_unreadable
    assert found.hostnames == ("ok.example",)


@pytest.mark.parametrize(
    "parents",
    ["text", "[{kind: Server}]", "[text]", "[{group: policyd.dev, kind: Server, name: web}, {name: 1}]"],
)
def test_an_unreadable_parent_is_flagged(spec_of: SpecOf, parents: str) -> None:
    found = http(spec_of, f"{{parentRefs: {parents}}}")
    assert found.parents_unreadable
    assert not found.readable


@pytest.mark.shows("R1")
@pytest.mark.parametrize(
    "parent",
    [
        "{name: gateway}",
        "{group: '', kind: Service, name: web, port: 80}",
        "{group: policyd.dev, kind: Server, name: web, namespace: other}",
        "{group: policyd.dev, kind: Server, name: web, port: 80}",
        "{group: policyd.dev, kind: Server, name: web, sectionName: a}",
    ],
)
def test_parents_that_are_no_servers_of_ours(spec_of: SpecOf, parent: str) -> None:
    found = http(spec_of, f"{{parentRefs: [{parent}]}}")
    assert found.servers("books") == ()
    assert found.readable


@pytest.mark.parametrize("spec", ["[]", "", "text"])
def test_a_route_of_which_nothing_can_be_read(spec_of: SpecOf, spec: str) -> None:
    found = http(spec_of, spec)
    assert (found.readable, found.match_unreadable, found.parents_unreadable) == (False, True, True)


@pytest.mark.parametrize(
    ("match", "readable"),
    [
        ("{method: {service: a.B}}", True),
        ("{method: {method: Get}}", True),
        ("{headers: [{name: a, value: b}]}", True),
        ("{method: {}}", False),
        ("{method: {type: RegularExpression, service: a}}", False),
        ("{method: {service: 'a/b'}}", False),
        ("{method: {service: 'a.*'}}", False),
        ("{path: {value: /a}}", False),
    ],
)
def test_grpc_matches(spec_of: SpecOf, match: str, readable: bool) -> None:
    found = route(spec_of(GATEWAY, "GRPCRoute", f"{{{PARENT}, rules: [{{matches: [{match}]}}]}}"))
    assert found.readable is readable
    assert found.match_unreadable is not readable


def test_of_one_header_the_first_counts(spec_of: SpecOf) -> None:
    matches = "[{headers: [{name: X-A, value: one}, {name: b, value: c}, {name: x-a, value: two}]}]"
    found = http(spec_of, f"{{{PARENT}, rules: [{{matches: {matches}}}]}}")
    assert [(header.name, header.value) for header in found.rules[0].matches[0].headers] == [
        ("x-a", "one"),
        ("b", "c"),
    ]


def test_a_pattern_is_named_by_its_own_field(spec_of: SpecOf) -> None:
    matches = "[{path: {type: RegularExpression, value: '['}}, {headers: [{name: a, type: RegularExpression, value: '('}]}]"
    found = spec_of(GATEWAY, "HTTPRoute", f"{{{PARENT}, rules: [{{matches: {matches}}}]}}")
    assert [finding.field for finding in found.findings] == [
        "spec.rules[0].matches[0].path.value",
        "spec.rules[0].matches[1].headers[0].value",
    ]


def test_a_version_that_is_not_known_makes_a_route_unreadable(spec_of: SpecOf) -> None:
    found = spec_of("gateway.networking.k8s.io/v2", "HTTPRoute", f"{{{PARENT}}}")
    assert not route(found).readable
    assert [finding.code for finding in found.findings] == ["unknown-version"]
