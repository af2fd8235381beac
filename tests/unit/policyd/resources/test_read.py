"""Which documents become which objects."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from policyd.resources.base import Document, Resource, Unreadable
from policyd.resources.read import read

Object = Resource[Any] | Unreadable
One = Callable[[str], Object]

LINKERD_SERVER = """
apiVersion: policy.linkerd.io/%s
kind: Server
metadata:
  namespace: emojivoto
  name: voting-grpc
  labels: {app: voting-svc}
spec:
  podSelector: {matchLabels: {app: voting-svc}}
  port: grpc
  proxyProtocol: gRPC
"""


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1", "v1beta2", "v1beta3"])
def test_every_served_version_of_linkerds_server(one: One, version: str) -> None:
    found = one(LINKERD_SERVER % version)
    assert isinstance(found, Resource)
    assert found.key.text == "server.policy.linkerd.io/emojivoto/voting-grpc"
    assert (found.spec.port, found.spec.proxy_protocol, found.spec.access_policy) == ("grpc", "gRPC", "deny")
    assert found.spec.selector.matches({"app": "voting-svc", "x": "y"})
    assert found.meta.labels == {"app": "voting-svc"}


LINKERDS = {
    "AuthorizationPolicy": """
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web-read, namespace: emojivoto}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: web-read}
  requiredAuthenticationRefs:
  - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: web}
  - {group: policy.linkerd.io, kind: NetworkAuthentication, name: cluster, namespace: linkerd}
""",
    "MeshTLSAuthentication": """
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: web, namespace: emojivoto}
spec:
  identityRefs: [{kind: ServiceAccount, name: web}, {kind: Namespace, name: other}]
""",
    "NetworkAuthentication": """
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: cluster, namespace: emojivoto}
spec:
  networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidr: 192.168.1.1}]
""",
    "ServerAuthorization": """
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: voting, namespace: emojivoto}
spec:
  server: {selector: {matchLabels: {app: voting}}}
  client:
    networks: [{cidr: 10.0.0.0/8}]
    meshTLS:
      identities: ["*.emojivoto.serviceaccount.identity.linkerd.cluster.local"]
      serviceAccounts: [{name: web}, {name: x, namespace: y}]
""",
    "HTTPRoute": """
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: web-read, namespace: emojivoto}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  rules:
  - matches:
    - {path: {type: Exact, value: /api}, method: GET}
    - {path: {value: /static/}, headers: [{name: X-A, value: b}], queryParams: [{name: q, value: r}]}
    timeouts: {request: 10s}
""",
    "HTTPLocalRateLimitPolicy": """
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: limit, namespace: emojivoto}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  total: {requestsPerSecond: 100}
  identity: {requestsPerSecond: 20}
  overrides: [{requestsPerSecond: 50, clientRefs: [{kind: ServiceAccount, name: a, namespace: b}]}]
""",
    "EgressNetwork": """
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {name: out, namespace: emojivoto}
spec: {trafficPolicy: Deny, networks: [{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}]}
""",
    "GRPCRoute": """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: vote, namespace: emojivoto}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: voting}]
  rules: [{matches: [{method: {service: emojivoto.v1.VotingService, method: VoteDoughnut}}, {}]}]
""",
    "ReferenceGrant": """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: emojivoto}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}]
  to: [{group: "", kind: Service}]
""",
}


@pytest.mark.parametrize("kind", LINKERDS)
def test_linkerds_manifests_are_readable(one: One, kind: str) -> None:
    found = one(LINKERDS[kind])
    assert isinstance(found, Resource)
    assert found.key.kind == kind
    assert [finding.code for finding in found.findings if finding.severity == "error"] == []


@pytest.mark.parametrize("kind", ["HTTPLocalRateLimitPolicy", "EgressNetwork"])
def test_known_and_not_enforced_says_so(one: One, kind: str) -> None:
    assert [finding.code for finding in one(LINKERDS[kind]).findings] == ["not-enforced"]


@pytest.mark.parametrize(("version", "field"), [("v1alpha1", "meshTls"), ("v1beta1", "meshTLS")])
def test_external_workload_in_both_spellings(one: One, version: str, field: str) -> None:
    found = one(f"""
apiVersion: workload.linkerd.io/{version}
kind: ExternalWorkload
metadata: {{name: vm, namespace: books}}
spec:
  {field}: {{identity: "spiffe://cluster.local/ns/books/sa/vm", serverName: vm.example}}
  ports: [{{name: http, port: 80}}]
  workloadIPs: [{{ip: "::ffff:10.0.0.9"}}]
""")
    assert isinstance(found, Resource)
    assert found.spec.mesh_tls.identity == "spiffe://cluster.local/ns/books/sa/vm"
    assert found.spec.workload_ips[0].ip == "10.0.0.9"


@pytest.mark.parametrize("identity", ["*", "spiffe://cluster.local/ns/books/sa/*", "vm"])
def test_external_workload_declares_one_identity(one: One, identity: str) -> None:
    found = one(f"""
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {{name: vm, namespace: books}}
spec: {{meshTLS: {{identity: "{identity}", serverName: vm.example}}}}
""")
    assert isinstance(found, Unreadable)


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("example.org/v1", "Server"),
        ("apps/v1beta1", "Deployment"),
        ("v1", "ConfigMap"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1alpha2", "TLSRoute"),
        ("linkerd.io/v1alpha2", "ServiceProfile"),
        ("policyd.dev/v1alpha1", "PolicyTest"),
    ],
)
def test_other_kinds_are_nobodys_business(api_version: str, kind: str) -> None:
    assert read(Document({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}})) is None


@pytest.mark.parametrize(
    "group", ["policyd.dev/v1alpha1", "policy.linkerd.io/v1beta1", "workload.linkerd.io/v1beta1"]
)
def test_unknown_kinds_of_our_groups_are_errors(one: One, group: str) -> None:
    found = one(f"apiVersion: {group}\nkind: Serverr\nmetadata: {{name: a}}\nspec: {{}}")
    assert isinstance(found, Unreadable)
    assert [problem.code for problem in found.problems] == ["unknown-kind"]


def test_unknown_version_of_a_known_kind_is_unreadable_and_salvaged(one: One) -> None:
    found = one("""
apiVersion: policyd.dev/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: web}
  requiredAuthenticationRefs: []
  action: Deny
""")
    assert isinstance(found, Unreadable)
    assert [problem.code for problem in found.problems] == ["unknown-version"]
    assert found.salvage["action"] == "Deny"
    target: Any = found.salvage["target_ref"]
    assert target.name == "web"


def test_a_field_beside_spec_is_no_secret(one: One) -> None:
    found = one("""
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: a, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: web}
  requiredAuthenticationRefs: []
when: [{method: {in: [GET]}}]
""")
    assert isinstance(found, Unreadable)
    assert [(problem.field, problem.origin.line) for problem in found.problems] == [("when", 8)]


def test_metadata(one: One) -> None:
    found = one("""
apiVersion: policyd.dev/v1alpha1
kind: NetworkAuthentication
metadata:
  name: a
  creationTimestamp: 2026-11-21T12:00:00+01:00
  generation: 3
  uid: u-1
  annotations: {a: b}
spec: {networks: [{cidr: 10.0.0.0/8}]}
""")
    assert found.meta.namespace == "default"
    assert found.meta.created == datetime(2026, 11, 21, 11, tzinfo=UTC)
    assert (found.meta.generation, found.meta.uid, found.meta.annotations) == (3, "u-1", {"a": "b"})


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ("{}", "metadata.name"),
        ("{name: A}", "metadata.name"),
        ("{name: a, namespace: a.b}", "metadata.namespace"),
        ("{name: a, labels: {b: 1}}", "metadata.labels.b"),
        ("{name: a, creationTimestamp: yesterday}", "metadata.creationTimestamp"),
        ("[a]", "metadata"),
    ],
)
def test_metadata_that_cannot_be_read(one: One, metadata: str, field: str) -> None:
    found = one(f"""
apiVersion: policyd.dev/v1alpha1
kind: NetworkAuthentication
metadata: {metadata}
spec: {{networks: [{{cidr: 10.0.0.0/8}}]}}
""")
    assert isinstance(found, Unreadable)
    assert found.problems[0].field == field
    assert found.salvage["networks"]


def test_objects_without_names_are_told_apart() -> None:
    base = {"apiVersion": "policyd.dev/v1alpha1", "kind": "Server", "metadata": {}}
    first, again, other = (read(Document(base | {"spec": spec})) for spec in ({"a": 1}, {"a": 1}, {"a": 2}))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.key == again.key != other.key


def test_the_place_of_a_nested_field(one: One) -> None:
    found = one(LINKERDS["AuthorizationPolicy"])
    assert found.position("spec.requiredAuthenticationRefs[0].name").text == "test.yaml:8:61"
    assert found.position(("spec", "requiredAuthenticationRefs", 1)).text == "test.yaml:9:5"
    assert found.position("spec.nothing").text == "test.yaml:5:1"
    assert found.origin.text == "test.yaml:2:1"


def test_meta_sorts_the_older_first() -> None:
    def aged(text: str | None, name: str) -> tuple[bool, float, str, str]:
        metadata = {"name": name} | ({"creationTimestamp": text} if text else {})
        found = read(
            Document({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        )
        assert found is not None
        return found.meta.age

    old, new, none = aged("2026-01-01T00:00:00Z", "z"), aged("2026-01-02T00:00:00Z", "a"), aged(None, "a")
    assert old < new < none


def test_of_many_problems_the_first_are_told(one: Callable[[str], Object]) -> None:
    fields = ", ".join(f"unknown{index}: 1" for index in range(500))
    found = one(
        "apiVersion: policyd.dev/v1alpha1\nkind: Server\nmetadata: {name: it}\n"
        f"spec: {{podSelector: {{}}, port: 80, {fields}}}"
    )
    assert isinstance(found, Unreadable)
    assert len(found.problems) == 101
    assert found.problems[0].message == "500 problems: these are the first 100"
