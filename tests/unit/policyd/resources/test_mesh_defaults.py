"""MeshDefaults, field by field (semantics U4)."""

# ruff: noqa: E501 - rows of tables stay on one line

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from policyd.resources.base import Resource, Unreadable
from policyd.resources.mesh_defaults import CLUSTER_NETWORKS, DenyItem, MeshDefaults, UnreadableItem

One = Callable[[str], Resource[Any] | Unreadable]


def read(one: One, spec: str, name: str = "default") -> tuple[MeshDefaults, list[str]]:
    found = one(
        f"apiVersion: policyd.dev/v1alpha1\nkind: MeshDefaults\nmetadata: {{name: {name}}}\nspec: {spec}"
    )
    assert isinstance(found, Resource)
    assert found.key.namespace == ""
    return found.spec, [finding.field for finding in found.findings]


def test_everything_has_its_default(one: One) -> None:
    defaults, findings = read(one, "{}")
    assert (defaults.fields.default_access, defaults.fields.max_default) == ("deny", "all-unauthenticated")
    assert defaults.fields.cluster_networks == CLUSTER_NETWORKS
    assert 5432 in defaults.fields.opaque_ports
    assert defaults.fields.outbound.plaintext == "Allow"
    assert defaults.fields.max_table_age is None
    assert findings == []


def test_everything_can_be_said(one: One) -> None:
    defaults, findings = read(
        one,
        """
  defaultAccess: audit
  maxDefault: cluster-authenticated
  clusterNetworks: [127.0.0.0/8, "::ffff:10.0.0.0/104"]
  probeNetworks: [127.0.0.1]
  trustedNamespaceLabels: [team]
  opaquePorts: [3306]
  deny: [{name: old, identities: ["*"], except: ["spiffe://a/ns/b/sa/c"], withoutIdentity: Ignore}]
  require: [{name: inside, networks: [{cidr: 10.0.0.0/8}], when: [{path: {prefix: /admin/}}], mode: Audit}]
  revoked: [{podUID: u, issuedBefore: 2026-11-21T12:00:00Z}]
  externalIdentities: [{namespace: books, identities: ["spiffe://other/vm"]}]
  maxTableAge: 1h30m
  epoch: 7
  outbound: {plaintext: Deny}
  opa: {address: "opa:8181"}
""",
    )
    assert findings == []
    assert defaults.fields.cluster_networks == ("127.0.0.0/8", "10.0.0.0/8")
    assert defaults.fields.probe_networks == ("127.0.0.1/32",)
    assert defaults.fields.max_table_age == timedelta(minutes=90)
    (deny,), (require,) = defaults.deny, defaults.require
    assert isinstance(deny, DenyItem)
    assert deny.except_ == ("spiffe://a/ns/b/sa/c",)
    assert not isinstance(require, UnreadableItem)
    assert require.when[0].path is not None
    assert require.when[0].path.prefix == "/admin"
    assert defaults.fields.opa is not None
    assert defaults.fields.opa.timeout == timedelta(milliseconds=100)


@pytest.mark.shows("U4")
@pytest.mark.parametrize("field", ["defaultAccess", "maxDefault"])
@pytest.mark.parametrize("value", ["everyone", "[deny]", "", "1"])
def test_an_unreadable_access_is_deny(one: One, field: str, value: str) -> None:
    defaults, findings = read(one, f"{{{field}: {value}, epoch: 3}}")
    found = {"defaultAccess": defaults.fields.default_access, "maxDefault": defaults.fields.max_default}
    assert found[field] == "deny"
    assert findings == [f"spec.{field}"]
    assert defaults.fields.epoch == 3


@pytest.mark.shows("U4")
def test_other_fields_take_their_default(one: One) -> None:
    spec = "{clusterNetworks: [10.0.0.1/8], opaquePorts: [0], maxTableAge: soon, trustedNamespaceLabels: team, maxDefault: deny}"
    defaults, findings = read(one, spec)
    assert defaults.fields.cluster_networks == CLUSTER_NETWORKS
    assert defaults.fields.trusted_namespace_labels == ()
    assert defaults.fields.max_default == "deny"
    assert defaults.unreadable_fields == {
        "cluster_networks",
        "opaque_ports",
        "max_table_age",
        "trusted_namespace_labels",
    }
    assert len(findings) == 4


@pytest.mark.shows("U4")
def test_unknown_fields_are_findings(one: One) -> None:
    defaults, findings = read(one, "{denny: [], defaultAccess: audit}")
    assert findings == ["spec.denny"]
    assert defaults.fields.default_access == "audit"


ITEMS = [
    pytest.param("{name: a}", UnreadableItem(0, "a", "Enforce"), id="I7-neither-identities-nor-networks"),
    pytest.param("{name: a, identities: ['*']}", UnreadableItem(0, "a", "Enforce"), id="A3-without-identity-unsaid"),
    pytest.param("{name: a, identities: [], withoutIdentity: Refuse}", UnreadableItem(0, "a", "Enforce"), id="I7-empty"),
    pytest.param("{name: a, mode: Audit, networks: [{cidr: x}]}", UnreadableItem(0, "a", "Audit"), id="audit"),
    pytest.param("{name: a, mode: Dry, networks: [{cidr: 10.0.0.0/8}]}", UnreadableItem(0, "a", None), id="mode"),
    pytest.param("{name: A b, networks: [{cidr: 10.0.0.0/8}]}", UnreadableItem(0, None, "Enforce"), id="name"),
    pytest.param("{networks: [{cidr: 10.0.0.0/8}], name: a, colour: red}", UnreadableItem(0, "a", "Enforce"), id="unknown-field"),
    pytest.param("text", UnreadableItem(0), id="text"),
]  # fmt: skip


@pytest.mark.shows("U4")
@pytest.mark.parametrize(("item", "expected"), ITEMS)
def test_an_unreadable_item_is_known_as_far_as_it_can_be(
    one: One, item: str, expected: UnreadableItem
) -> None:
    defaults, findings = read(one, f"{{deny: [{item}, {{name: good, networks: [{{cidr: 10.0.0.0/8}}]}}]}}")
    assert defaults.deny[0] == expected
    assert isinstance(defaults.deny[1], DenyItem)
    assert findings
    assert all(field.startswith("spec.deny[0]") for field in findings)


@pytest.mark.parametrize("value", ["", "text", "{name: a}"])
@pytest.mark.parametrize("field", ["deny", "require"])
def test_a_list_that_is_none_refuses(one: One, field: str, value: str) -> None:
    defaults, findings = read(one, f"{{{field}: {value}}}")
    assert {"deny": defaults.deny, "require": defaults.require}[field] == (UnreadableItem(0),)
    assert findings == [f"spec.{field}"]


def test_a_spec_that_is_none_refuses_everything(one: One) -> None:
    defaults, _ = read(one, "[]")
    assert defaults.deny == (UnreadableItem(0),)
    assert (defaults.fields.default_access, defaults.fields.max_default) == ("deny", "deny")


@pytest.mark.shows("I9")
def test_a_broken_revocation_does_not_bring_the_others_back(one: One) -> None:
    defaults, findings = read(
        one, "{revoked: [{podUID: a}, {podUID: b, identity: 'spiffe://a/b'}, {podUID: c}]}"
    )
    assert [revoked.pod_uid for revoked in defaults.fields.revoked] == ["a", "c"]
    assert findings == ["spec.revoked[1]"]


@pytest.mark.parametrize(
    "item",
    [
        "{}",
        "{certificateSHA256: abc}",
        f"{{certificateSHA256: {'A' * 64}}}",
        "{identity: '*'}",
        "{identity: 'spiffe://a/ns/b/sa/*'}",
        "{podUID: a, issuedBefore: never}",
    ],
)
def test_a_revocation_names_one_thing_exactly(one: One, item: str) -> None:
    defaults, findings = read(one, f"{{revoked: [{item}]}}")
    assert defaults.fields.revoked == ()
    assert findings


@pytest.mark.shows("W6")
def test_only_default_counts(one: One) -> None:
    _, findings = read(one, "{}", name="other")
    assert findings == ["metadata.name"]
