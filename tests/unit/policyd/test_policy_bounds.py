"""Rows PC-04 and PC-07: what is too large or too slow (`docs/reference/tests-by-row.md`).

Times are bounds that only something of another order misses; how long things take is measured elsewhere.
"""

from __future__ import annotations

import json
import time

import pytest

from policyd import engine
from policyd.compile.compiler import Compiler
from policyd.errors import EngineError
from policyd.model.finding import Finding
from tests.unit.policyd.compile.worlds import (
    DEPLOYMENT,
    ROUTE,
    SERVER,
    WEB,
    ask,
    compiled,
    objects,
    policy,
    rules,
)

FRIENDS = "[{group: policyd.dev, kind: MeshTLSAuthentication, name: friends}]"
ACCOUNTS = "spiffe://cluster.local/ns/books/sa/"
READER = ACCOUNTS + "reader"


def friends(name: str, identities: list[str]) -> str:
    return (
        f"apiVersion: policyd.dev/v1alpha1\nkind: MeshTLSAuthentication\n"
        f"metadata: {{name: {name}, namespace: books}}\nspec: {json.dumps({'identities': identities})}\n"
    )


def findings(compiler: Compiler) -> list[Finding]:
    """What was found when the manifests were read."""
    return [finding for found in compiler.world.objects.values() for finding in found.findings]


def expression(pattern: str) -> str:
    path = f"{{type: RegularExpression, value: {json.dumps(pattern)}}}"
    return ROUTE.replace("{value: /read}", path)


@pytest.mark.parametrize(
    "pattern",
    ["/" + "a" * 100 * 1024, "/((a{99}){99}){99}", r"/(a)\1", "/(?=a)a", "/(a", r"/\p{Greek}"],
    ids=["100 KiB", "nested", "back-reference", "look-ahead", "unclosed", "class"],
)
def test_pc_04_expressions_beyond_the_bounds_are_unreadable_and_refuse(pattern: str) -> None:
    found = compiled(DEPLOYMENT, SERVER, expression(pattern), policy("p", ""))
    began = time.perf_counter()
    with pytest.raises(EngineError):
        engine.check_regex(pattern)
    assert time.perf_counter() - began < 1  # ten milliseconds is what it takes; machines differ
    assert "bad-value" in {finding.code for finding in findings(found)}
    assert ask(found, path="/a", identity=READER)["reason"] == "policy_unreadable"


@pytest.mark.parametrize("pattern", ["/(a+)+b", "/(a|aa)+b", "/(.*.*.*)*b", "/([a-z]+)*b"])
def test_pc_04_no_expression_takes_long(pattern: str) -> None:
    found = compiled(DEPLOYMENT, SERVER, expression(pattern), policy("p", ""))
    began = time.perf_counter()
    assert ask(found, path="/" + "a" * 8000, identity=READER)["reason"] == "no_route"
    assert time.perf_counter() - began < 2  # what backtracks doesn't end at all
    assert ask(found, path="/" + "a" * 8000 + "b", identity=READER)["reason"] == "allowed"


def test_pc_07_a_hundred_thousand_identities() -> None:
    names = [f"{ACCOUNTS}a{number}" for number in range(100_000)]
    texts = [friends(f"f{first}", names[first : first + 10_000]) for first in range(0, len(names), 10_000)]
    refs = [FRIENDS.replace("friends", f"f{first}") for first in range(0, len(names), 10_000)]
    began = time.perf_counter()
    found = compiled(DEPLOYMENT, SERVER, *texts, *(policy(f"p{n}", "", each) for n, each in enumerate(refs)))
    assert ask(found, identity=ACCOUNTS + "a99999")["verdict"] == "allow"
    assert ask(found, identity=ACCOUNTS + "a100000")["reason"] == "no_matching_rule"
    assert time.perf_counter() - began < 60


def test_pc_07_a_list_beyond_its_bound_is_unreadable_and_says_the_bound() -> None:
    beyond = friends("friends", [f"{ACCOUNTS}a{number}" for number in range(10_001)])
    found = compiled(DEPLOYMENT, SERVER, beyond, policy("p", "", FRIENDS))
    assert ask(found, identity=ACCOUNTS + "a1")["reason"] == "no_matching_rule"
    (finding,) = findings(found)
    assert "books/friends spec.identities" in finding.text
    assert "expected 10000 or fewer" in finding.text


def test_pc_07_ten_thousand_policies_and_one_more() -> None:
    found = compiled(DEPLOYMENT, SERVER)
    grants = objects(
        "\n---\n".join(
            policy(f"p{number}", "", f"[{{kind: ServiceAccount, name: a{number}}}]")
            for number in range(10_000)
        )
    )
    began = time.perf_counter()
    assert found.apply([(each.key, each) for each in grants]) == {WEB}
    assert not found.failures
    assert len(rules(found, 8080)) == 10_000
    assert ask(found, identity=ACCOUNTS + "a9999")["verdict"] == "allow"
    assert found.apply([(grants[-1].key, None)]) == {WEB}
    assert ask(found, identity=ACCOUNTS + "a9999")["reason"] == "no_matching_rule"
    assert time.perf_counter() - began < 60
