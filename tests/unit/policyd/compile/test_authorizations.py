"""What policies mean as rows."""

import pytest

from policyd.compile.rows import Condition, ConditionSubject, ConditionTest, Effect, Level, Rule, Scope, Who
from tests.unit.policyd.compile.worlds import (
    DEPLOYMENT,
    ROUTE,
    SERVER,
    WEB,
    ask,
    codes,
    compiled,
    mesh,
    objects,
    policy,
    port,
    rules,
)

AUTHENTICATION = """
apiVersion: policyd.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {{name: friends, namespace: books}}
spec: {}
"""
FRIENDS = "[{group: policyd.dev, kind: MeshTLSAuthentication, name: friends}]"
ACCOUNT = "[{kind: ServiceAccount, name: reader}]"
READER = "spiffe://cluster.local/ns/books/sa/reader"


def identities(*texts: str) -> tuple[Rule, tuple[str, ...], tuple[str, ...]]:
    """The only rule on port 8080, and its identities."""
    found = compiled(DEPLOYMENT, SERVER, *texts)
    (rule,) = rules(found, 8080)
    pooled = found.tables[WEB].workload.pools.identities[rule.identities]
    return rule, pooled.any_of, pooled.except_


@pytest.mark.shows("I6")
def test_no_authentication_asks_nobody_for_anything() -> None:
    (rule,) = rules(compiled(DEPLOYMENT, SERVER, policy("open", "")), 8080)
    assert (rule.identity, rule.network, rule.anonymous_too) == (Who.ANYONE, Who.ANYONE, False)


@pytest.mark.shows("I2", "A3")
def test_star_is_our_own_trust_domain_but_in_a_deny() -> None:
    anyone = AUTHENTICATION.format("{identities: ['*'], except: {identities: ['*']}}")
    own = ("spiffe://cluster.local/*",)
    rule, any_of, _ = identities(anyone, policy("p", "", FRIENDS))
    assert any_of == own
    assert not rule.anonymous_too
    assert identities(anyone, policy("p", ", action: Require", FRIENDS))[1] == own
    rule, any_of, taken_out = identities(anyone, policy("p", ", action: Deny", FRIENDS))
    assert (any_of, taken_out, rule.anonymous_too) == (("*",), own, True)


@pytest.mark.shows("I3", "I4", "I5")
def test_what_is_listed_and_selected_adds_up_and_except_removes() -> None:
    spec = (
        "{identities: [web.shop.serviceaccount.identity.linkerd.cluster.local, 'spiffe://other/*'],"
        " identityRefs: [{kind: ServiceAccount, name: a}, {kind: Namespace, name: b}],"
        " namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}},"
        " except: {identityRefs: [{kind: ServiceAccount, name: c, namespace: d}]}}"
    )
    shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    _, any_of, taken_out = identities(AUTHENTICATION.format(spec), shop, policy("p", "", FRIENDS))
    assert any_of == (
        "spiffe://cluster.local/ns/b/sa/*",
        "spiffe://cluster.local/ns/books/sa/a",
        "spiffe://cluster.local/ns/shop/sa/*",
        "spiffe://cluster.local/ns/shop/sa/web",
        "spiffe://other/*",
    )
    assert taken_out == ("spiffe://cluster.local/ns/d/sa/c",)


@pytest.mark.shows("I4")
def test_a_selector_reads_trusted_labels_only() -> None:
    selected = AUTHENTICATION.format("{namespaceSelector: {matchLabels: {team: red}}}")
    labelled = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: red}}\n"
    assert identities(selected, labelled, policy("p", "", FRIENDS))[1] == ()
    trusting = mesh("{trustedNamespaceLabels: [team]}")
    assert identities(selected, labelled, trusting, policy("p", "", FRIENDS))[1] == (
        "spiffe://cluster.local/ns/shop/sa/*",
    )


@pytest.mark.shows("I7", "U2")
def test_pc_05_a_missing_authentication_created_and_deleted_again() -> None:
    found = compiled(DEPLOYMENT, SERVER, policy("grant", "", FRIENDS))
    (there,) = objects(AUTHENTICATION.format(f"{{identities: ['{READER}']}}"))
    verdicts = [ask(found, identity=READER)["verdict"]]
    for change in ((there.key, there), (there.key, None)):
        assert found.apply([change]) == {WEB}
        verdicts.append(ask(found, identity=READER)["verdict"])
    assert verdicts == ["deny", "allow", "deny"]


@pytest.mark.shows("I7", "U2")
@pytest.mark.parametrize("action", ["Deny", "Require"])
def test_pc_05_without_its_authentication_a_deny_or_require_refuses_everything(action: str) -> None:
    found = compiled(
        DEPLOYMENT, SERVER, policy("guard", f", action: {action}, when: [{{path: {{prefix: /a}}}}]", FRIENDS)
    )
    (rule,) = rules(found, 8080)
    assert (rule.effect, rule.conditions) == (Effect.REFUSE, ())
    assert rule.origin == "policyd.dev/AuthorizationPolicy/books/guard:spec.requiredAuthenticationRefs[0]"
    answer = ask(found, identity=READER)
    assert (answer["reason"], answer["authorization"]) == (
        "policy_unreadable",
        "authorizationpolicy.policyd.dev/books/guard",
    )


@pytest.mark.shows("U2")
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (", because: none", []),
        (", action: Deny, because: none", [(Effect.REFUSE, Level.SERVER, False)]),
        (", action: Forbid", [(Effect.REFUSE, Level.SERVER, False)]),
        (", action: Deny, mode: Audit, because: none", [(Effect.REFUSE, Level.SERVER, True)]),
        (", action: Deny, mode: Maybe", [(Effect.REFUSE, Level.SERVER, False)]),
    ],
)
def test_what_is_left_of_an_unreadable_policy(more: str, expected: list[tuple[Effect, Level, bool]]) -> None:
    found = compiled(DEPLOYMENT, SERVER, policy("p", more))
    assert [(rule.effect, rule.level, rule.audit) for rule in rules(found, 8080)] == expected


@pytest.mark.shows("U2")
def test_pc_08_a_policy_for_another_namespace_concerns_its_own() -> None:
    grant = policy("grant", "", target="Namespace/shop")
    assert rules(compiled(DEPLOYMENT, grant), 8080) == []
    shop = DEPLOYMENT.replace("namespace: books", "namespace: shop")
    found = compiled(DEPLOYMENT, shop, policy("ban", ", action: Deny", target="Namespace/shop"))
    assert [(rule.effect, rule.level) for rule in rules(found, 8080)] == [(Effect.REFUSE, Level.NAMESPACE)]
    other = next(table for name, table in found.tables.items() if name.namespace == "shop")
    assert other.workload.rules == []


@pytest.mark.shows("A8", "W5")
def test_a_server_authorization_without_networks_means_the_cluster() -> None:
    linkerd = SERVER.replace("policyd.dev/v1alpha1", "policy.linkerd.io/v1beta3").replace(
        "name: http, ", "name: http, labels: {tier: front}, "
    )
    grant = """
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: old, namespace: books}
spec:
  server: {selector: {matchLabels: {tier: front}}}
  client: {meshTLS: {unauthenticatedTLS: true}}
"""
    found = compiled(DEPLOYMENT, linkerd, grant, mesh("{clusterNetworks: [10.1.0.0/16]}"))
    (rule,) = rules(found, 8080)
    pools = found.tables[WEB].workload.pools
    assert pools.identities[rule.identities].any_of == ("spiffe://cluster.local/*",)
    assert [block.cidr for block in pools.networks[rule.networks].any_of] == ["10.1.0.0/16"]
    assert rules(compiled(DEPLOYMENT, SERVER, grant), 8080) == []


@pytest.mark.shows("A5")
def test_an_allow_on_a_route_is_for_who_selected_it_and_a_deny_for_whom_it_matches() -> None:
    found = compiled(
        DEPLOYMENT,
        SERVER,
        ROUTE,
        policy("a", "", target="HTTPRoute/read"),
        policy("b", ", action: Deny", ACCOUNT, target="HTTPRoute/read"),
        policy("c", ", action: Require, because: x", target="HTTPRoute/read"),
    )
    assert [(rule.effect, rule.level, rule.scope) for rule in rules(found, 8080)] == [
        (Effect.ALLOW, Level.ROUTE, Scope.ROUTE_SELECTED),
        (Effect.DENY, Level.ROUTE, Scope.ROUTE_MATCHED),
        (Effect.REFUSE, Level.ROUTE, Scope.ROUTE_MATCHED),
    ]


@pytest.mark.shows("A4", "D2", "W7")
def test_pc_06_rules_stand_in_the_order_of_attribution_whatever_the_order_of_events() -> None:
    dated = ", creationTimestamp: '2026-01-01T00:00:00Z'"
    texts = [
        policy("z", "", target="Namespace/books", meta=dated),
        policy("b", ""),
        policy("a", ", action: Deny"),
        policy("young", "", meta=dated.replace("01-01", "05-01")),
        policy("r", "", target="HTTPRoute/read"),
    ]
    found = compiled(DEPLOYMENT, SERVER, ROUTE, *texts)
    names = [rule.authorization.rpartition("/")[2] for rule in rules(found, 8080)]
    assert names == ["r", "young", "a", "b", "z"]
    again = compiled(*reversed(texts), ROUTE, SERVER, DEPLOYMENT)
    assert found.tables[WEB].snapshot == again.tables[WEB].snapshot


@pytest.mark.shows("V1")
def test_conditions_are_pooled_sorted_and_shared() -> None:
    header, query = "{header: {name: X-Env, in: [b, a]}}", "{query: {name: k, exists: false}}"
    when = f", when: [{header}, {query}, {{path: {{prefix: /a/}}}}]"
    found = compiled(DEPLOYMENT, SERVER, policy("p", when), policy("q", when))
    first, second = rules(found, 8080)
    assert first.conditions == second.conditions == (0, 1, 2)
    assert found.tables[WEB].workload.pools.conditions == [
        Condition(ConditionSubject.HEADER, "x-env", ConditionTest.IN, ("a", "b")),
        Condition(ConditionSubject.QUERY, "k", ConditionTest.ABSENT, ()),
        Condition(ConditionSubject.PATH, "", ConditionTest.PREFIX, ("/a",)),
    ]


@pytest.mark.shows("A7")
def test_a_grant_that_ended_before_the_epoch_does_not_last_for_ever() -> None:
    (rule,) = rules(compiled(DEPLOYMENT, SERVER, policy("p", ", validUntil: '1970-01-01T00:00:00Z'")), 8080)
    assert rule.valid_until_millis == 1


@pytest.mark.shows("V8")
def test_conditional_policies_beyond_the_bound_are_unreadable() -> None:
    when = ", when: [{method: {in: [GET]}}]"
    grants = [policy(f"n{number:03}", when, target="Namespace/books") for number in range(254)]
    last = [policy("s1", f", action: Deny{when}"), policy("s2", f", action: Deny{when}"), policy("s3", when)]
    cluster = mesh("{deny: [{name: one, networks: [{cidr: 10.9.0.0/16}], when: [{method: {in: [PUT]}}]}]}")
    found = compiled(DEPLOYMENT, SERVER, *grants, *last, cluster)
    effects = {rule.authorization.rpartition("/")[2]: rule.effect for rule in rules(found, 8080)}
    assert effects["s1"] is Effect.DENY
    assert effects["s2"] is Effect.REFUSE
    assert "s3" not in effects
    assert "TooManyConditions" in codes(found)
    assert "s2" not in {rule.authorization.rpartition("/")[2] for rule in rules(found, 9090)}


@pytest.mark.shows("T4")
def test_a_server_that_reads_no_paths_contradicts_a_policy_that_does() -> None:
    opaque = SERVER.replace("port: http", "port: http, pathMode: opaque")
    assert codes(compiled(DEPLOYMENT, opaque, policy("p", ""))) == set()
    found = compiled(DEPLOYMENT, opaque, policy("p", ", when: [{path: {in: [/a]}}]"))
    assert Effect.REFUSE in {rule.effect for rule in rules(found, 8080)}
    assert codes(found) == {"PathModeContradicts"}
    assert port(compiled(DEPLOYMENT, opaque, ROUTE), 8080).routes == ()
