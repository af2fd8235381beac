"""What MeshDefaults fixes for all."""

import pytest

from policyd.compile.rows import Effect, Revocation, Who
from policyd.model.names import WorkloadName
from tests.unit.policyd.compile.worlds import DEPLOYMENT, WEB, ask, compiled, mesh, objects

DENY = "{deny: [{name: cut, identities: ['*'], except: ['*'], withoutIdentity: Ignore}]}"


def test_without_mesh_defaults_everything_has_its_default() -> None:
    part = compiled(DEPLOYMENT).cluster.rows
    assert part.cluster_networks == [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fd00::/8",
    ]
    assert (part.trust_domain, part.rules, part.max_table_age_seconds, part.epoch) == (
        "cluster.local",
        [],
        0,
        0,
    )


@pytest.mark.shows("A3", "I2", "D2")
def test_a_deny_says_whether_peers_without_identity_are_meant() -> None:
    found = compiled(DEPLOYMENT, mesh(DENY)).cluster.rows
    (rule,) = found.rules
    assert rule.authorization == "meshdefaults.policyd.dev/default#deny/cut"
    assert (rule.identity, rule.anonymous_too) == (Who.SET, False)
    (identities,) = found.pools.identities
    assert (identities.any_of, identities.except_) == (("*",), ("spiffe://cluster.local/*",))
    (refusing,) = compiled(DEPLOYMENT, mesh(DENY.replace("Ignore", "Refuse"))).cluster.rows.rules
    assert refusing.anonymous_too


@pytest.mark.shows("U4", "D2")
def test_an_unreadable_item_refuses_everywhere_unless_it_is_readably_an_audit() -> None:
    spec = "{deny: [{name: a, identities: ['*']}, 7], require: [{name: b, mode: Audit}]}"
    found = compiled(DEPLOYMENT, mesh(spec))
    assert [
        (rule.effect, rule.authorization.partition("#")[2], rule.audit) for rule in found.cluster.rows.rules
    ] == [
        (Effect.REFUSE, "deny/a", False),
        (Effect.REFUSE, "deny[1]", False),
        (Effect.REFUSE, "require/b", True),
    ]
    assert ask(found)["reason"] == "policy_unreadable"


@pytest.mark.shows("I9", "W6")
def test_revocations_and_the_age_of_tables() -> None:
    digest = "ab" * 32
    spec = (
        f"{{revoked: [{{certificateSHA256: {digest}}}, {{podUID: u, issuedBefore: '2026-01-01T00:00:00Z'}}],"
        " maxTableAge: 200ms, epoch: 3}"
    )
    part = compiled(DEPLOYMENT, mesh(spec)).cluster.rows
    assert part.revoked == [
        Revocation(certificate_sha256=digest),
        Revocation(pod_uid="u", issued_before_millis=1767225600000),
    ]
    assert (part.max_table_age_seconds, part.epoch) == (1, 3)


def test_a_change_of_the_cluster_changes_every_table_and_compiles_no_workload() -> None:
    found = compiled(DEPLOYMENT)
    before = found.tables[WEB]
    (defaults,) = objects(mesh("{deny: [{name: cut, networks: [{cidr: 192.0.2.0/24}]}]}"))
    assert found.apply([(defaults.key, defaults)]) == {WEB}
    after = found.tables[WEB]
    assert after.workload is before.workload
    assert after.version != before.version
    assert found.apply([(defaults.key, None)]) == {WEB}
    assert found.tables[WEB].snapshot == before.snapshot


def external(name: str, identity: str, namespace: str = "books") -> str:
    return (
        f"apiVersion: workload.linkerd.io/v1beta1\nkind: ExternalWorkload\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{meshTLS: {{identity: '{identity}', serverName: x}}}}\n"
    )


@pytest.mark.shows("W6")
def test_an_external_workload_declares_its_own_namespaces_identity_or_one_it_was_given() -> None:
    own, foreign = "spiffe://cluster.local/ns/books/sa/a", "spiffe://legacy/vm"
    granted = mesh(f"{{externalIdentities: [{{namespace: books, identities: ['{foreign}']}}]}}")
    texts = [external("own", own), external("vm", foreign), external("thief", own, "shop")]
    names = {name.name for name in compiled(*texts).tables}
    assert names == {"own"}
    found = compiled(*texts, granted)
    assert {name.name for name in found.tables} == {"own", "vm"}
    assert {finding.code for finding in found.refused.values()} == {"IdentityNotOwn"}


@pytest.mark.shows("W6")
def test_of_two_that_declare_one_identity_none_has_a_table() -> None:
    identity = "spiffe://cluster.local/ns/books/sa/a"
    found = compiled(external("one", identity))
    (two,) = objects(external("two", identity))
    names = {WorkloadName("externalworkload", "books", name) for name in ("one", "two")}
    assert found.apply([(two.key, two)]) == names
    assert found.tables == {}
    assert found.apply([(two.key, None)]) == names
    assert {name.name for name in found.tables} == {"one"}
