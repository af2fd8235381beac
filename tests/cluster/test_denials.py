"""A denied request on a node: who may know of it, in kubectl's words and policyctl's, and why it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from policyd.cli.exit_codes import ExitCode
from tests.api.rig import RigError
from tests.cluster.cluster import Cluster
from tests.cluster.policy_cases import CASES, OURS
from tests.cluster.test_policies import AS_INSTALLED, come_about

DELIVERED_SECONDS = 30.0
"""Loose: a proxy delivers within a second, an Event is written within another."""
STATUS_SECONDS = 30.0
DENY = next(each for each in CASES if each.name == "deny")
RULE = "authorizationpolicy.policyd.dev/shop/policy"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def denied(shop: Cluster) -> Iterator[str]:
    """The id of a denial that the bot got, while its policy is still there."""
    objects = DENY.make("")
    shop.apply(*objects)
    answers = come_about(shop, DENY.outcomes)
    [answer] = [each for (who, _, _), each in zip(DENY.outcomes, answers, strict=True) if who == "bot"]
    shop.node.wait(
        "the denial is kept", lambda: answer["decision"] in _names(shop, "-n", "shop"), DELIVERED_SECONDS
    )
    yield answer["decision"]
    shop.delete(*objects)
    come_about(shop, AS_INSTALLED)


def test_kubectl_and_policyctl_show_the_denial(shop: Cluster, denied: str) -> None:
    record = shop.get("denials", "-n", "shop", denied)["record"]
    assert record["reason"] == "explicit_deny"
    assert record["authorization"] == RULE
    assert record["peer"]["identity"] == "spiffe://cluster.local/ns/shop/sa/bot"
    table = shop.kubectl("get", "denials", "-n", "shop")
    assert "explicit_deny" in table, table
    rows = json.loads(shop.policyctl("denials", "-n", "shop", "--reason", "explicit_deny", "-o", "json"))
    assert any(row["count"] >= 1 and row["reason"] == "explicit_deny" for row in rows["denials"]), rows


def test_explain_tells_which_rule_and_what_changed(shop: Cluster, denied: str) -> None:
    told = json.loads(shop.policyctl("explain", denied, "-o", "json", code=ExitCode.NO))
    assert told["verdict"] == "deny"
    assert told["reason"] == "explicit_deny"
    assert RULE in json.dumps(told)
    page = shop.policyctl("explain", denied[:13], code=ExitCode.NO)
    assert "the smallest change that allows it" in page
    for words in ("authorizationpolicy/shop/policy", "explicit_deny", "generation 1", "kubectl"):
        assert words in page, page


def test_who_may_not_read_a_namespace_is_told_nothing_of_its_denials(shop: Cluster, denied: str) -> None:
    account = "system:serviceaccount:outside:plain"
    for words in (("get", "denials", "-n", "shop"), ("get", "denials", "-n", "shop", denied)):
        with pytest.raises(RigError, match="Forbidden"):
            shop.kubectl(*words, f"--as={account}")
    viewer = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewer", "namespace": "shop"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "plain", "namespace": "outside"}],
    }
    shop.apply(viewer)
    try:
        shop.node.wait(
            "a viewer reads them", lambda: denied in _names(shop, "-n", "shop", f"--as={account}"), 20.0
        )
        with pytest.raises(RigError, match="Forbidden"):
            shop.kubectl("get", "denials", "-A", f"--as={account}")
    finally:
        shop.delete(viewer)


def test_an_event_on_the_workload_has_the_id_of_a_decision(shop: Cluster, denied: str) -> None:
    def events() -> list[Object]:
        found = shop.get("events", "-n", "shop", "--field-selector", "reason=Denied")["items"]
        return [each for each in found if "explicit_deny" in each["message"]]

    [event, *_] = shop.node.wait("an Event tells of the denial", events, DELIVERED_SECONDS)
    assert event["involvedObject"]["kind"] == "Deployment"
    assert event["involvedObject"]["name"] == "server"
    assert "policyctl explain" in event["message"]


def test_the_columns_say_who_enforces_it(shop: Cluster, denied: str) -> None:
    def enforced() -> bool:
        rows = shop.kubectl("get", "authorizationpolicies.policyd.dev", "-n", "shop", "--no-headers").split()
        return {"policy", "Deny", "True", "1/1"} <= set(rows)

    shop.node.wait("the policy's status says 1/1", enforced, STATUS_SECONDS)
    found = shop.get("authorizationpolicies.policyd.dev", "-n", "shop", "policy")
    conditions = {each["type"]: each for each in found["status"]["conditions"]}
    assert conditions["Accepted"]["status"] == conditions["Enforced"]["status"] == "True"


def test_a_policy_without_a_target_says_so(shop: Cluster) -> None:
    lost = {
        "apiVersion": OURS,
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "lost", "namespace": "shop"},
        "spec": {
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": "nowhere"},
            "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": "web"}],
        },
    }
    shop.apply(lost)
    try:

        def told() -> str:
            page = shop.kubectl("describe", "authorizationpolicies.policyd.dev", "-n", "shop", "lost")
            return page if "TargetNotFound" in page else ""

        assert "nowhere" in shop.node.wait("describe says what is missing", told, STATUS_SECONDS)
    finally:
        shop.delete(lost)


def _names(cluster: Cluster, *words: str) -> set[str]:
    try:
        return {each["metadata"]["name"] for each in cluster.get("denials", *words)["items"]}
    except RigError:
        return set()
