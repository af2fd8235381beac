"""Rows on compile and evaluation (`docs/reference/tests-by-row.md`), each from manifests to a verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policyd import engine
from policyd.compile.compiler import Compiler
from policyd.errors import EngineError, SnapshotError
from tests.unit.policyd.compile.worlds import (
    DEPLOYMENT,
    SERVER,
    WEB,
    ask,
    compiled,
    objects,
    policy,
    rules,
)

FRIENDS = "[{group: policyd.dev, kind: MeshTLSAuthentication, name: friends}]"
INSIDE = "[{group: policyd.dev, kind: NetworkAuthentication, name: inside}]"
ACCOUNTS = "spiffe://cluster.local/ns/books/sa/"
READER = ACCOUNTS + "reader"


def friends(spec: str) -> str:
    return _authentication("MeshTLSAuthentication", "friends", spec)


def inside(spec: str) -> str:
    return _authentication("NetworkAuthentication", "inside", spec)


def _authentication(kind: str, name: str, spec: str) -> str:
    return (
        f"apiVersion: policyd.dev/v1alpha1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: books}}\nspec: {spec}\n"
    )


def path_item(path: str) -> str:
    """A policy that grants what lies under a path, and nothing else."""
    return policy("p", f", when: [{{path: {{prefix: {json.dumps(path)}}}}}]")


def reason(*texts: str, path: str = "/", **peer: Any) -> str:
    """Why a GET to `web` with a Server is decided as it is; without `from` a reader from inside asks."""
    answer = ask(compiled(DEPLOYMENT, SERVER, *texts), path=path, **{"identity": READER, **peer})
    assert (answer["verdict"] == "allow") == (answer["reason"] == "allowed")
    return str(answer["reason"])


def said(compiler: Compiler) -> set[str]:
    """Codes of what was found when the manifests were read."""
    return {finding.code for found in compiler.world.objects.values() for finding in found.findings}


EMPTY = [
    (friends("{identities: []}"), FRIENDS, ""),
    (friends("{identityRefs: []}"), FRIENDS, ""),
    (friends("{}"), FRIENDS, ""),
    (friends("{except: {identities: ['*']}}"), FRIENDS, ""),
    (inside("{networks: []}"), INSIDE, ""),
    (inside("{}"), INSIDE, ""),
    *(
        ("", "[]", f", when: [{{{key}: {{{test}: []}}}}]")
        for key in ("method", "path", "host")
        for test in ("in", "notIn")
    ),
    ("", "[]", ", when: [{header: {name: x-env, in: []}}]"),
    ("", "[]", ", when: [{query: {name: page, notIn: []}}]"),
]


@pytest.mark.parametrize(("authentication", "refs", "when"), EMPTY)
def test_pc_01_an_empty_list_widens_no_grant_and_narrows_no_refusal(
    authentication: str, refs: str, when: str
) -> None:
    texts = [authentication] if authentication else []
    assert reason(*texts, policy("p", when, refs)) == "no_matching_rule"
    for action in ("Deny", "Require"):
        guarded = [*texts, policy("guard", f", action: {action}{when}", refs), policy("open", "")]
        assert reason(*guarded) == "policy_unreadable"
    assert said(compiled(DEPLOYMENT, SERVER, *texts, policy("p", when, refs))) & {
        "bad-value",
        "missing-field",
    }


def test_pc_01_a_selector_that_selects_nobody_matches_nobody() -> None:
    nobody = friends("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: nowhere}}}")
    assert reason(nobody, policy("p", "", FRIENDS)) == "no_matching_rule"
    assert reason(nobody, policy("p", ", action: Require", FRIENDS), policy("q", "")) == "requirement_not_met"


@pytest.mark.parametrize(
    ("written", "looks_like"),
    [("a.b", "axb"), ("a+", "aa"), ("a*", "aaa"), ("(a)", "a"), ("a$", "a"), ("*", "a"), ("a'b", "ab")],
)
def test_pc_03_a_path_is_what_it_says(written: str, looks_like: str) -> None:
    grant = path_item(f"/{written}")
    assert reason(grant, path=f"/{written}/x") == "allowed"
    assert reason(grant, path=f"/{looks_like}") == "no_matching_rule"


@pytest.mark.parametrize("path", ["/a\\b", "/a[b", "/a|b", "/a^b", "/a/../b", "/%61", "a", ""])
def test_pc_03_a_path_that_no_request_could_have_is_unreadable(path: str) -> None:
    found = compiled(DEPLOYMENT, SERVER, path_item(path))
    assert rules(found, 8080) == []
    assert "bad-value" in said(found)


def test_pc_03_dots_in_names_are_dots() -> None:
    dotted = "[{kind: ServiceAccount, name: re.der}]"
    assert reason(policy("p", "", dotted), identity=ACCOUNTS + "re.der") == "allowed"
    for other in ("reader", "re-der", "re.der2", "are.der"):
        assert reason(policy("p", "", dotted), identity=ACCOUNTS + other) == "no_matching_rule"
    exact = policy("p", "", FRIENDS)
    assert (
        reason(friends("{identities: ['spiffe://cluster.local/ns/b.oks/sa/*']}"), exact) == "no_matching_rule"
    )
    for partly in ("read*", "*er", "*/x"):
        text = friends(f"{{identities: ['{ACCOUNTS}{partly}']}}")
        assert reason(text, exact) == "no_matching_rule"
        assert said(compiled(DEPLOYMENT, text)) == {"bad-value"}


@pytest.mark.promise("P-16")
def test_pc_10_what_a_newer_policyd_wrote_is_refused_whole() -> None:
    found = compiled(DEPLOYMENT, SERVER, policy("p", ""))
    rows = json.loads(engine.Table(found.tables[WEB].snapshot).rows())
    cluster = engine.encode_cluster(json.dumps(rows["cluster"]).encode())
    newer = {**rows["workload"], "reader_version": engine.READER_VERSION + 1}
    with pytest.raises(SnapshotError, match="reader"):
        engine.Table(engine.assemble(cluster, engine.encode_workload(json.dumps(newer).encode())))
    unknown = engine.encode_workload(json.dumps(rows["workload"]).encode()) + b"\xf8\x01\x01"
    with pytest.raises(SnapshotError):
        engine.Table(engine.assemble(cluster, unknown))
    with pytest.raises(SnapshotError):
        engine.encode_workload(json.dumps({**rows["workload"], "surprise": 1}).encode())


UNICODE = {
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "confusable": "re\u0430der",
    "turned": "rea\u202eder",
    "zero width": "rea\u200bder",
    "full width": "\uff52eader",
    "small dotless": "reader\u0131",
}


@pytest.mark.parametrize("name", UNICODE.values(), ids=UNICODE)
def test_pc_12_only_ascii_is_a_name(name: str) -> None:
    found = (
        policy("p", "", f'[{{kind: ServiceAccount, name: "{name}"}}]'),
        policy(f'"{name}"', ""),
        path_item(f"/{name}"),
    )
    for text in found:
        assert reason(text) == "no_matching_rule"
        assert said(compiled(DEPLOYMENT, text)) & {"bad-value", "bad-metadata"}
    listed = friends(f'{{identities: ["{ACCOUNTS}{name}"]}}')
    assert reason(listed, policy("p", "", FRIENDS)) == "no_matching_rule"
    with pytest.raises(EngineError):
        engine.check_identity(ACCOUNTS + name)


def test_pc_12_names_compare_byte_for_byte() -> None:
    grant = policy("p", "", "[{kind: ServiceAccount, name: reader}]")
    for other in ("Reader", "READER", "reader.", "reader-", "readers", "reade"):
        assert reason(grant, identity=ACCOUNTS + other) == "no_matching_rule"
    assert reason(grant) == "allowed"


@pytest.mark.parametrize(
    "cidr",
    [
        "10.0.0.0/33",
        "10.0.0.7/8",
        "010.0.0.0/8",
        "10.0.0/8",
        "10.0.0.0/255.0.0.0",
        "fe80::1%eth0/64",
        "::/129",
        "0x0a000000/8",
        "",
    ],
)
def test_pc_13_what_is_no_network_grants_nothing_and_refuses_everything(cidr: str) -> None:
    networks = inside(f"{{networks: [{{cidr: '{cidr}'}}]}}")
    assert said(compiled(DEPLOYMENT, networks)) == {"bad-value"}
    assert reason(networks, policy("p", "", INSIDE)) == "no_matching_rule"
    assert reason(networks, policy("p", ", action: Deny", INSIDE)) == "policy_unreadable"


@pytest.mark.parametrize("ip", ["10.0.0.7", "::ffff:10.0.0.7"])
@pytest.mark.parametrize(
    ("cidr", "verdict"),
    [
        ("10.0.0.7", "allowed"),
        ("10.0.0.0/8", "allowed"),
        ("0.0.0.0/0", "allowed"),
        ("::ffff:10.0.0.0/104", "allowed"),
        ("::ffff:10.0.0.7", "allowed"),
        ("::/0", "no_matching_rule"),
        ("10.0.0.8/31", "no_matching_rule"),
    ],
)
def test_pc_13_a_mapped_address_is_the_address(ip: str, cidr: str, verdict: str) -> None:
    networks = inside(f"{{networks: [{{cidr: '{cidr}'}}]}}")
    assert reason(networks, policy("p", "", INSIDE), ip=ip) == verdict


def test_pc_13_an_exception_holds_for_both_forms_of_an_address() -> None:
    networks = inside("{networks: [{cidr: 10.0.0.0/8, except: [10.0.0.7/32]}]}")
    for ip in ("10.0.0.7", "::ffff:10.0.0.7"):
        assert reason(networks, policy("p", "", INSIDE), ip=ip) == "no_matching_rule"


@pytest.mark.shows("A6")
def test_pc_14_to_audit_and_back_grants_nothing_on_the_way() -> None:
    """Only a default of `audit` lets through what nothing grants, and that is what it says."""
    for action, enforced in (
        ("Allow", "allowed"),
        ("Deny", "explicit_deny"),
        ("Require", "requirement_not_met"),
    ):
        refs = FRIENDS if action == "Require" else "[]"
        found = compiled(DEPLOYMENT, SERVER, friends(f"{{identities: ['{ACCOUNTS}other']}}"))
        reasons = []
        for mode in ("Enforce", "Audit", "Enforce", "Audit"):
            (switched,) = objects(policy("p", f", action: {action}, mode: {mode}", refs))
            found.apply([(switched.key, switched)])
            reasons.append(ask(found, identity=READER)["reason"])
        assert reasons == [enforced, "no_matching_rule", enforced, "no_matching_rule"]


@pytest.mark.shows("A6")
def test_pc_14_an_audit_policy_takes_no_grant_away() -> None:
    for action in ("Deny", "Require"):
        refs = FRIENDS if action == "Require" else "[]"
        watched = policy("p", f", action: {action}, mode: Audit", refs)
        found = compiled(
            DEPLOYMENT, SERVER, friends("{identities: ['spiffe://o/*']}"), watched, policy("q", "")
        )
        answer = ask(found, identity=READER)
        assert (answer["verdict"], answer["audit"]["verdict"]) == ("allow", "deny")
