"""Our CRDs in a real API server: what it takes, what it refuses and in which words, what kubectl shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyd.admission.validate import validate
from policyd.model.names import POLICYD
from policyd.resources.base import Document, Unreadable
from policyd.resources.crd import CRDS
from policyd.resources.read import read
from policyd.resources.registry import KINDS
from policyd.sources.yaml_documents import parse
from tests.api.rig import ApiServer, RigError

ROOT = Path(__file__).parents[2]
PLURALS = {each.kind: each.plural for each in CRDS}
Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def crds(api: ApiServer) -> None:
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        api.apply(file)
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def manifest(kind: str, spec: object, name: str = "it") -> Json:
    return {"apiVersion": f"{POLICYD}/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def stored(api: ApiServer, namespace: str, written: Json) -> str:
    """Return what the API server says against an object; "" where it takes it. Nothing is stored."""
    kind = written["kind"]
    place = f"namespaces/{namespace}/" if KINDS[POLICYD, kind].namespaced else ""
    body = {**written, "metadata": {"name": written["metadata"]["name"]}}
    try:
        api.request("POST", f"/apis/{POLICYD}/v1alpha1/{place}{PLURALS[kind]}?dryRun=All", body)
    except RigError as error:
        said: str = json.loads(str(error).partition(" ")[2].partition(" ")[2].partition(" ")[2])["message"]
        return said
    return ""


def ours() -> Iterator[Document]:
    """Every object of our group that a case or a sample has."""
    for folder in ("tests/cases", "policies"):
        for file in sorted((ROOT / folder).rglob("*.yaml")):
            for document in parse(file.read_bytes(), str(file)).documents:
                named = str(document.content["apiVersion"]), document.content["kind"]
                metadata = document.content.get("metadata")
                if named[0] == f"{POLICYD}/v1alpha1" and named[1] in PLURALS and isinstance(metadata, dict):
                    yield document


def test_everything_that_can_be_read_is_taken(api: ApiServer, namespace: str) -> None:
    """And of what can't be read something is refused here already; the webhook refuses the rest."""
    taken = refused = 0
    for document in ours():
        found = read(document)
        assert found is not None
        readable = not isinstance(found, Unreadable) and all(
            each.severity != "error" for each in found.findings
        )
        targets = document.content.get("spec")
        metadata = document.content["metadata"]
        if not (isinstance(metadata, dict) and isinstance(metadata.get("name"), str)):
            continue
        said = stored(api, namespace, dict(document.content))
        if readable:
            assert said == "", (document.origin().text, targets)
            taken += 1
        else:
            refused += bool(said)
    assert taken > 300
    assert refused > 10


SERVER: Json = {"podSelector": {}, "port": 8080}
TARGET: Json = {"targetRef": {"group": POLICYD, "kind": "Server", "name": "web"}}
POLICY: Json = {**TARGET, "requiredAuthenticationRefs": []}
BOOKS = {"kind": "ServiceAccount", "name": "books"}
NETWORK = {"group": POLICYD, "kind": "NetworkAuthentication", "name": "inside"}
IN_CEL: dict[str, tuple[str, Json]] = {
    "no selector": ("Server", {"port": 80}),
    "two selectors": ("Server", {**SERVER, "externalWorkloadSelector": {}}),
    "port 0": ("Server", {**SERVER, "port": 0}),
    "port 65536": ("Server", {**SERVER, "port": 65536}),
    "a port's name without a letter": ("Server", {**SERVER, "port": "80-80"}),
    "a port's name in capitals": ("Server", {**SERVER, "port": "HTTP"}),
    "In without values": (
        "Server",
        {**SERVER, "podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
    ),
    "Exists with values": (
        "Server",
        {
            **SERVER,
            "podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
        },
    ),
    "another target": ("AuthorizationPolicy", {**POLICY, "targetRef": {"kind": "Deployment", "name": "web"}}),
    "another reference": (
        "AuthorizationPolicy",
        {**TARGET, "requiredAuthenticationRefs": [{"kind": "Secret", "name": "x"}]},
    ),
    "two accounts": ("AuthorizationPolicy", {**TARGET, "requiredAuthenticationRefs": [BOOKS, BOOKS]}),
    "two networks": ("AuthorizationPolicy", {**TARGET, "requiredAuthenticationRefs": [NETWORK, NETWORK]}),
    "a Deny that ends": (
        "AuthorizationPolicy",
        {**POLICY, "action": "Deny", "validUntil": "2027-01-01T00:00:00Z"},
    ),
    "a condition on nothing": ("AuthorizationPolicy", {**POLICY, "when": [{}]}),
    "a condition on two things": (
        "AuthorizationPolicy",
        {**POLICY, "when": [{"path": {"prefix": "/"}, "method": {"in": ["GET"]}}]},
    ),
    "no test": ("AuthorizationPolicy", {**POLICY, "when": [{"header": {"name": "a"}}]}),
    "two tests": (
        "AuthorizationPolicy",
        {**POLICY, "when": [{"header": {"name": "a", "in": ["b"], "exists": True}}]},
    ),
    "nobody": ("MeshTLSAuthentication", {}),
    "a Namespace in a namespace": (
        "MeshTLSAuthentication",
        {"identityRefs": [{"kind": "Namespace", "name": "books", "namespace": "books"}]},
    ),
    "an account that is none": (
        "MeshTLSAuthentication",
        {"identityRefs": [{"kind": "User", "name": "ada"}]},
    ),
    "two modules": ("RegoPolicy", {**TARGET, "module": "package a", "opa": {"path": "a"}}),
    "a denial of nobody": ("MeshDefaults", {"deny": [{"name": "a"}]}),
    "exceptions from nothing": (
        "MeshDefaults",
        {"require": [{"name": "a", "networks": [{"cidr": "10.0.0.0/8"}], "except": ["*"]}]},
    ),
    "a denial that leaves out those without identity": (
        "MeshDefaults",
        {"deny": [{"name": "a", "identities": ["*"]}]},
    ),
    "a revocation of nothing": ("MeshDefaults", {"revoked": [{}]}),
}


@pytest.mark.parametrize("what", IN_CEL)
def test_wh_06_what_cel_can_say_it_says_in_the_readers_words(
    api: ApiServer, namespace: str, what: str
) -> None:
    kind, spec = IN_CEL[what]
    written = manifest(kind, spec)
    errors = [each for each in validate(written, namespace=namespace).errors if each.code != "not-supported"]
    assert errors
    said = stored(api, namespace, written)
    for error in errors:
        assert error.field in said
        assert error.message in said


IN_SCHEMA: dict[str, tuple[str, Json, str]] = {
    "no port": ("Server", {"podSelector": {}}, "spec.port: Required value"),
    "an unknown protocol": (
        "Server",
        {**SERVER, "proxyProtocol": "HTTP"},
        'spec.proxyProtocol: Unsupported value: "HTTP": supported values: "unknown", "HTTP/1"',
    ),
    "no list of authentications": (
        "AuthorizationPolicy",
        TARGET,
        "requiredAuthenticationRefs: Required value",
    ),
    "an unknown action": (
        "AuthorizationPolicy",
        {**POLICY, "action": "Permit"},
        'spec.action: Unsupported value: "Permit": supported values: "Allow", "Deny", "Require"',
    ),
    "an empty list of identities": (
        "MeshTLSAuthentication",
        {"identities": []},
        "spec.identities in body should",
    ),
    "an empty list of networks": ("NetworkAuthentication", {"networks": []}, "spec.networks in body should"),
    "text for a number": ("MeshDefaults", {"epoch": "1"}, "spec.epoch in body must be of type integer"),
    "text for a list": (
        "AuthorizationPolicy",
        {**POLICY, "when": "always"},
        "spec.when in body must be of type",
    ),
    "seventeen conditions": (
        "AuthorizationPolicy",
        {**POLICY, "when": [{"method": {"in": ["GET"]}}] * 17},
        "spec.when: Too many: 17: must have at most 16 items",
    ),
}


@pytest.mark.parametrize("what", IN_SCHEMA)
def test_wh_06_what_the_schema_can_say(api: ApiServer, namespace: str, what: str) -> None:
    kind, spec, words = IN_SCHEMA[what]
    assert validate(manifest(kind, spec), namespace=namespace).errors
    assert words in stored(api, namespace, manifest(kind, spec))


def test_an_unknown_field_is_kept_for_the_webhook_to_refuse(api: ApiServer, namespace: str) -> None:
    """Were it dropped, the grant would be wider than it was written."""
    written = manifest("AuthorizationPolicy", {**POLICY, "wehn": [{"method": {"in": ["GET"]}}]})
    path = f"/apis/{POLICYD}/v1alpha1/namespaces/{namespace}/authorizationpolicies"
    made = api.request("POST", path, written)
    assert made["spec"]["wehn"] == [{"method": {"in": ["GET"]}}]


def test_kubectl_get_says_what_matters(api: ApiServer, namespace: str) -> None:
    group = f"/apis/{POLICYD}/v1alpha1/namespaces/{namespace}"
    api.request("POST", f"{group}/servers", manifest("Server", SERVER, "web"))
    api.request("POST", f"{group}/authorizationpolicies", manifest("AuthorizationPolicy", POLICY, "readers"))
    status = {
        "observedGeneration": 1,
        "workloads": 5,
        "enforcing": 3,
        "enforced": "3/5",
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Accepted",
                "message": "it is enforced",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-11-21T12:00:00Z",
            }
        ],
    }
    merge = {"Content-Type": "application/merge-patch+json"}
    api.request("PATCH", f"{group}/authorizationpolicies/readers/status", {"status": status}, **merge)
    head, row = api.kubectl("get", "-n", namespace, "servers.policyd.dev").splitlines()
    assert head.split() == ["NAME", "PORT", "PROTOCOL", "DEFAULT", "ACCEPTED", "ENFORCED", "AGE"]
    assert row.split()[:4] == ["web", "8080", "unknown", "deny"]
    head, row = api.kubectl("get", "-n", namespace, "pauthz").splitlines()
    titles = "NAME ACTION MODE TARGET KIND TARGET ACCEPTED ENFORCED AGE"
    assert " ".join(head.split()) == titles
    assert row.split()[:-1] == ["readers", "Allow", "Enforce", "Server", "web", "True", "3/5"]


def test_a_status_is_no_part_of_what_is_applied(api: ApiServer, namespace: str) -> None:
    """Only who may write the subresource can say that an object is enforced."""
    group = f"/apis/{POLICYD}/v1alpha1/namespaces/{namespace}/servers"
    written = manifest("Server", SERVER, "web") | {"status": {"enforced": "9/9"}}
    assert "status" not in api.request("POST", group, written)


@pytest.mark.parametrize("kind", PLURALS)
def test_kubectl_explain_reads_like_documentation(api: ApiServer, kind: str) -> None:
    text = api.kubectl("explain", f"{PLURALS[kind]}.{POLICYD}.spec")
    assert "<no description>" not in text
    assert "DESCRIPTION:\n    <empty>" not in text


def test_the_namespace_of_a_reference_can_be_named(api: ApiServer, namespace: str) -> None:
    """`namespace` is a word of CEL's own."""
    reference = {"kind": "ServiceAccount", "name": "web", "namespace": "books"}
    written = manifest("AuthorizationPolicy", {**TARGET, "requiredAuthenticationRefs": [reference]})
    assert stored(api, namespace, written) == ""
