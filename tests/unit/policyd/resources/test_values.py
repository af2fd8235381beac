"""Values of one object alone: what is readable, what is not, and what the finding says."""

# ruff: noqa: E501 - rows of tables stay on one line

from collections.abc import Callable
from typing import Any

import pytest

from policyd.resources.base import Resource, Unreadable

OURS, LINKERD = "policyd.dev/v1alpha1", "policy.linkerd.io/v1alpha1"
REF = "targetRef: {group: policyd.dev, kind: Server, name: web}"
ANYONE = "requiredAuthenticationRefs: []"
MESH = "{group: policyd.dev, kind: MeshTLSAuthentication, name: a}"
NET = "{group: policyd.dev, kind: NetworkAuthentication, name: a}"
LONG = "a" * 1025

SpecOf = Callable[[str, str, str], Resource[Any] | Unreadable]

POLICY_ROWS = [
    pytest.param(f"{{{REF}}}", "spec.requiredAuthenticationRefs", "missing", id="I6-field-must-be-there"),
    pytest.param(f"{{{REF}, requiredAuthenticationRefs: }}", "spec.requiredAuthenticationRefs", "nothing", id="I7-null"),
    pytest.param(f"{{{REF}, requiredAuthenticationRefs: [{MESH}, {{kind: ServiceAccount, name: a}}]}}", "spec", "at most one MeshTLS", id="I6-two-identities"),
    pytest.param(f"{{{REF}, requiredAuthenticationRefs: [{NET}, {NET}]}}", "spec", "at most one Network", id="I6-two-networks"),
    pytest.param(f"{{{REF}, requiredAuthenticationRefs: [{{kind: MeshTLSAuthentication, name: a}}]}}", "spec.requiredAuthenticationRefs[0]", "`group` is missing", id="group-forgotten"),
    pytest.param(f"{{{REF}, {ANYONE}, action: Permit}}", "spec.action", "'Permit': expected one of 'Allow'", id="U1-action"),
    pytest.param(f"{{{REF}, {ANYONE}, mode: audit}}", "spec.mode", "'audit': expected one of", id="U1-mode"),
    pytest.param(f"{{{REF}, {ANYONE}, acton: Deny}}", "spec.acton", "unknown field 'acton'", id="U1-unknown-field"),
    pytest.param(f"{{{REF}, {ANYONE}, action: Deny, validUntil: 2026-11-21T12:00:00Z}}", "spec", "expected it on Allow only", id="A7-deny"),
    pytest.param(f"{{{REF}, {ANYONE}, validUntil: 2026-11-21}}", "spec.validUntil", "RFC 3339", id="A7-date"),
    pytest.param(f"{{{REF}, {ANYONE}, validUntil: 2026-11-21T12:00:00}}", "spec.validUntil", "RFC 3339", id="A7-no-zone"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{}}]}}", "spec.when[0]", "no subjects", id="V1-no-subject"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{method: {{in: [GET]}}, path: {{prefix: /a}}}}]}}", "spec.when[0]", "several subjects", id="V1-two-subjects"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: a, in: [b], exists: true}}}}]}}", "spec.when[0].header", "several tests", id="V1-two-tests"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: a}}}}]}}", "spec.when[0].header", "no tests", id="V1-no-test"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: a, in: []}}}}]}}", "spec.when[0].header.in", "expected 1 or more", id="PC-01-empty-in"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{path: {{notIn: []}}}}]}}", "spec.when[0].path.notIn", "expected 1 or more", id="PC-01-empty-notIn"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{method: {{in: []}}}}]}}", "spec.when[0].method.in", "expected 1 or more", id="PC-01-empty-methods"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{method: {{in: [get]}}}}]}}", "spec.when[0].method.in[0]", "upper case", id="V6-lower-case-method"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{method: {{prefix: G}}}}]}}", "spec.when[0].method.prefix", "unknown field", id="V1-method-prefix"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: 'a b', exists: true}}}}]}}", "spec.when[0].header.name", "no header name", id="V3-no-token"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: Host, exists: true}}}}]}}", "spec.when[0].header.name", "can't be read", id="V1-reserved-header"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: x-policyd-a, exists: true}}}}]}}", "spec.when[0].header.name", "can't be read", id="V1-our-header"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: a, in: [' b']}}}}]}}", "spec.when[0].header.in[0]", "blanks", id="V3-blanks"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{header: {{name: a, exists: 'true'}}}}]}}", "spec.when[0].header.exists", "expected true or false", id="text-for-bool"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{path: {{prefix: a}}}}]}}", "spec.when[0].path.prefix", "normal form", id="V5-relative"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{path: {{in: [/a/../b]}}}}]}}", "spec.when[0].path.in[0]", "normal form", id="V5-dots"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{path: {{in: ['/%41']}}}}]}}", "spec.when[0].path.in[0]", "expected '/A'", id="V5-not-normal"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{host: {{in: ['a:80']}}}}]}}", "spec.when[0].host.in[0]", "no port", id="V6-port"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{host: {{in: ['*']}}}}]}}", "spec.when[0].host.in[0]", "no host", id="V6-bare-star"),
    pytest.param(f"{{{REF}, {ANYONE}, when: [{{host: {{in: ['*.10.0.0.1']}}}}]}}", "spec.when[0].host.in[0]", "no host", id="V6-star-address"),
    pytest.param(f"{{targetRef: {{group: apps, kind: Deployment, name: web}}, {ANYONE}}}", "spec.targetRef", "can't be referred to", id="U1-target-kind"),
    pytest.param(f"{{targetRef: {{kind: Namespace, name: other}}, {ANYONE}}}", "spec.targetRef", "another namespace", id="A4-other-namespace"),
    pytest.param(f"{{targetRef: {{group: policyd.dev, kind: Server, name: web, namespace: x}}, {ANYONE}}}", "spec.targetRef.namespace", "unknown field", id="U1-unknown-at-depth"),
    pytest.param(f"{{targetRef: {{group: policyd.dev, kind: Server, name: Wеb}}, {ANYONE}}}", "spec.targetRef.name", "not a name", id="PC-12-confusable"),
    pytest.param(f"{{targetRef: {{group: policyd.dev, kind: Server, name: \"we\\u200bb\"}}, {ANYONE}}}", "spec.targetRef.name", "not a name", id="PC-12-zero-width"),
    pytest.param(f"{{targetRef: {{group: policyd.dev, kind: Server, name: 'web.*'}}, {ANYONE}}}", "spec.targetRef.name", "not a name", id="PC-03-pattern-in-name"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "field", "message"), POLICY_ROWS)
def test_unreadable_policy(spec_of: SpecOf, spec: str, field: str, message: str) -> None:
    found = spec_of(OURS, "AuthorizationPolicy", spec)
    assert isinstance(found, Unreadable)
    (problem,) = found.problems
    assert problem.severity == "error"
    assert problem.field == field
    assert message in problem.message
    assert problem.origin.file == "test.yaml"
    assert problem.origin.line == 4
    assert problem.key == found.key


MESH_ROWS = [
    pytest.param(OURS, "{}", "spec", "at least one of", id="nobody"),
    pytest.param(OURS, "{except: {identities: ['*']}}", "spec", "at least one of", id="I7-only-except"),
    pytest.param(OURS, "{identities: []}", "spec.identities", "expected 1 or more", id="PC-01-empty-identities"),
    pytest.param(OURS, "{identityRefs: []}", "spec.identityRefs", "expected 1 or more", id="PC-01-empty-refs"),
    pytest.param(OURS, "{identities: [web.books.svc.cluster.local]}", "spec.identities[0]", "no identity", id="I3-other-dns"),
    pytest.param(OURS, "{identities: ['spiffe://a/ns/*/sa/b']}", "spec.identities[0]", "no identity", id="I1-star-in-the-middle"),
    pytest.param(OURS, "{identities: ['spiffe://a/ns/b/sa/web*']}", "spec.identities[0]", "no identity", id="I1-raw-prefix"),
    pytest.param(OURS, "{identities: ['spiffe://A/ns/b/sa/c']}", "spec.identities[0]", "no identity", id="I1-upper-case-domain"),
    pytest.param(OURS, "{identityRefs: [{kind: Namespace, name: a, namespace: b}]}", "spec.identityRefs[0]", "no `namespace`", id="I4-namespaced-namespace"),
    pytest.param(OURS, "{identityRefs: [{kind: User, name: a}]}", "spec.identityRefs[0]", "can't be referred to", id="I4-user"),
    pytest.param(LINKERD, "{identities: ['*'], identityRefs: [{kind: Namespace, name: a}]}", "spec", "not both", id="I4-both-on-linkerds"),
    pytest.param(LINKERD, "{identities: ['*'], except: {identities: ['*']}}", "spec.except", "on a kind of policy.linkerd.io", id="I4-except-on-linkerds"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "spec", "field", "message"), MESH_ROWS)
def test_unreadable_mesh_tls(spec_of: SpecOf, version: str, spec: str, field: str, message: str) -> None:
    found = spec_of(version, "MeshTLSAuthentication", spec)
    assert isinstance(found, Unreadable)
    assert [(problem.field, message in problem.message) for problem in found.problems] == [(field, True)]


NETWORK_ROWS = [
    pytest.param("10.0.0.0/33", "no network", id="PC-13-length"),
    pytest.param("10.0.0.1/8", "expected 10.0.0.0/8", id="PC-13-host-bits"),
    pytest.param("fe80::1%eth0", "scope", id="PC-13-scoped"),
    pytest.param("fe80::%1/64", "no network", id="PC-13-scoped-network"),
    pytest.param("10.0.0.0/08", "no network", id="PC-13-zero-in-front"),
    pytest.param("10.0.0.0/255.0.0.0", "no network", id="PC-13-mask"),
    pytest.param("10.0.0/8", "no network", id="three-bytes"),
    pytest.param("010.0.0.1", "no IP address", id="octal"),
    pytest.param("everywhere", "no IP address", id="word"),
    pytest.param("", "no IP address", id="nothing"),
]


@pytest.mark.parametrize(("cidr", "message"), NETWORK_ROWS)
def test_unreadable_network(spec_of: SpecOf, cidr: str, message: str) -> None:
    found = spec_of(OURS, "NetworkAuthentication", f"{{networks: [{{cidr: '{cidr}'}}]}}")
    assert isinstance(found, Unreadable)
    (problem,) = found.problems
    assert problem.field == "spec.networks[0].cidr"
    assert message in problem.message


@pytest.mark.parametrize(
    ("cidr", "normal"),
    [
        pytest.param("0.0.0.0/0", "0.0.0.0/0", id="PC-13-everywhere"),
        pytest.param("10.0.0.7", "10.0.0.7/32", id="address"),
        pytest.param("::ffff:10.0.0.0/104", "10.0.0.0/8", id="PC-13-mapped-network"),
        pytest.param("::ffff:10.0.0.7", "10.0.0.7/32", id="PC-13-mapped-address"),
        pytest.param("FD00:0:0::/8", "fd00::/8", id="case-and-zeros"),
        pytest.param("::/0", "::/0", id="all-of-IPv6"),
    ],
)
def test_network_in_normal_form(spec_of: SpecOf, cidr: str, normal: str) -> None:
    found = spec_of(OURS, "NetworkAuthentication", f"{{networks: [{{cidr: '{cidr}'}}]}}")
    assert isinstance(found, Resource)
    assert found.spec.networks[0].cidr == normal


@pytest.mark.parametrize(
    "networks",
    [
        pytest.param("[]", id="PC-01-no-networks"),
        pytest.param("[{cidr: 10.0.0.0/8, except: [11.0.0.1]}]", id="except-outside"),
        pytest.param("[{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]", id="except-all"),
        pytest.param("[{cidr: 10.0.0.0/8, except: ['fd00::/8']}]", id="except-of-the-other-family"),
    ],
)
def test_networks_that_cannot_be_meant(spec_of: SpecOf, networks: str) -> None:
    assert isinstance(spec_of(OURS, "NetworkAuthentication", f"{{networks: {networks}}}"), Unreadable)


SERVER_ROWS = [
    pytest.param("{port: 80}", "spec", "exactly one of", id="no-selector"),
    pytest.param("{port: 80, podSelector: {}, externalWorkloadSelector: {}}", "spec", "exactly one of", id="two-selectors"),
    pytest.param("{podSelector: {}}", "spec.port", "missing", id="no-port"),
    pytest.param("{podSelector: {}, port: 0}", "spec.port", "1 to 65535", id="port-0"),
    pytest.param("{podSelector: {}, port: 65536}", "spec.port", "1 to 65535", id="port-65536"),
    pytest.param("{podSelector: {}, port: true}", "spec.port", "no port", id="port-true"),
    pytest.param("{podSelector: {}, port: '8080'}", "spec.port", "at least one letter", id="port-number-as-text"),
    pytest.param("{podSelector: {}, port: 1.5}", "spec.port", "no port", id="port-fraction"),
    pytest.param("{podSelector: {}, port: 80, proxyProtocol: http}", "spec.proxyProtocol", "'HTTP/1'", id="protocol"),
    pytest.param("{podSelector: {}, port: 80, accessPolicy: all}", "spec.accessPolicy", "'deny'", id="access"),
    pytest.param("{podSelector: {}, port: 80, upgrades: [h2c]}", "spec.upgrades[0]", "'websocket'", id="upgrade"),
    pytest.param("{podSelector: {matchExpressions: [{key: a, operator: In}]}, port: 80}", "spec.podSelector.matchExpressions[0]", "without values", id="W2-in-without-values"),
    pytest.param("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}, port: 80}", "spec.podSelector.matchExpressions[0]", "with values", id="W2-exists-with-values"),
    pytest.param("{podSelector: {matchLabels: {a: 1}}, port: 80}", "spec.podSelector.matchLabels.a", "expected text", id="label-number"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "field", "message"), SERVER_ROWS)
def test_unreadable_server(spec_of: SpecOf, spec: str, field: str, message: str) -> None:
    found = spec_of(OURS, "Server", spec)
    assert isinstance(found, Unreadable)
    assert [(problem.field, message in problem.message) for problem in found.problems] == [(field, True)]


def test_several_mistakes_are_told_at_once(spec_of: SpecOf) -> None:
    found = spec_of(OURS, "AuthorizationPolicy", "{action: Permit, mode: Dry, when: [{}], colour: red}")
    fields = {problem.field for problem in found.findings}
    assert fields == {
        "spec.action",
        "spec.mode",
        "spec.when[0]",
        "spec.colour",
        "spec.targetRef",
        "spec.requiredAuthenticationRefs",
    }


def test_identities_are_read_as_spiffe_ids(spec_of: SpecOf) -> None:
    names = (  # fmt: skip
        "[web.books.serviceaccount.identity.linkerd.cluster.local, '*.books.serviceaccount.identity.linkerd.cluster.local', "
        "my.web.books.serviceaccount.identity.linkerd.example.org]"
    )
    found = spec_of(LINKERD, "MeshTLSAuthentication", f"{{identities: {names}}}")
    assert isinstance(found, Resource)
    assert found.spec.identities == (
        "spiffe://cluster.local/ns/books/sa/web",
        "spiffe://cluster.local/ns/books/sa/*",
        "spiffe://example.org/ns/books/sa/my.web",
    )
