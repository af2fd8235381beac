"""The smallest fix: applying it allows the request, and what else it allows is said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from policyd.explain.answer import decide
from policyd.explain.fix import Fix, smallest_fix
from policyd.explain.manifests import Manifests, Place
from policyd.explain.paper import on_paper
from policyd.explain.policytest import find_tests
from policyd.explain.question import Caller, Question, http_request
from policyd.explain.testrun import ask
from policyd.model.names import parse_workload
from policyd.resources.base import Document
from policyd.resources.read import read as read_object
from policyd.sources.yaml_documents import parse

CASES = Path(__file__).parents[3] / "cases"
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
BY_POLICY = {"no_matching_rule", "no_identity", "explicit_deny", "requirement_not_met", "no_route"}
"""Reasons that a change of policies can do something about."""

WORLD = """\
apiVersion: v1
kind: Namespace
metadata: {name: books}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: authors, namespace: books}
spec:
  selector: {matchLabels: {app: authors}}
  template:
    metadata: {labels: {app: authors}}
    spec: {containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: authors, namespace: books}
spec: {podSelector: {matchLabels: {app: authors}}, port: http}
---
"""
READERS = """\
apiVersion: policyd.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: readers, namespace: books}
spec:
  identities:
  - spiffe://cluster.local/ns/books/sa/webapp  # the shop
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: authors}
  requiredAuthenticationRefs: [{group: policyd.dev, kind: MeshTLSAuthentication, name: readers}]
"""


def read(folder: Path, text: str) -> tuple[Manifests, Place]:
    (folder / "world.yaml").write_text(WORLD + text)
    manifests = Manifests.read([folder])
    place = manifests.place(parse_workload("deployment/books/authors"))
    assert place is not None
    return manifests, place


def asked(account: str | None, path: str = "/", ip: str = "10.0.0.7") -> Question:
    identity = None if account is None else f"spiffe://cluster.local/ns/books/sa/{account}"
    return Question(8080, AT, Caller(ip, identity), http_request("GET", path, "authors", []))


def fix_of(folder: Path, text: str, question: Question) -> Fix:
    manifests, place = read(folder, text)
    assert not decide(manifests, place, question).allowed
    found = smallest_fix(manifests, place, question)
    assert found is not None
    return found


def patched(fix: Fix, folder: Path) -> Manifests:
    """The manifests after `patch` has applied the fix."""
    patch = shutil.which("patch")
    if patch is None:
        pytest.skip("patch is not installed")
    relative = fix.patch.replace(f"{folder}/", "")
    subprocess.run([patch, "-p0", "-s"], input=relative.encode(), check=True, cwd=folder)
    return Manifests.read([folder])


def test_a_missing_identity_is_one_line_in_the_authentication(tmp_path: Path) -> None:
    question = asked("editor")
    fix = fix_of(tmp_path, READERS, question)
    assert fix.summary == ("add books/editor to MeshTLSAuthentication books/readers",)
    added = [line for line in fix.patch.splitlines()[2:] if line.startswith(("+", "-"))]
    assert added == ["+  - spiffe://cluster.local/ns/books/sa/editor"]


def test_what_else_it_allows_is_told_in_words_and_as_data(tmp_path: Path) -> None:
    fix = fix_of(tmp_path, READERS, asked("editor", "/one"))
    (also,) = fix.also_allows
    assert also.kind == "granted"
    assert also.text == "books/editor may also call everything on deployment/books/authors port 8080"
    assert also.who == "books/editor"
    assert also.because == "authorizationpolicy.policyd.dev/books/readers"


ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: books}}
spec:
  parentRefs: [{{group: policyd.dev, kind: Server, name: authors}}]
  rules:
  - matches:
    - {{path: {{type: Exact, value: /{name}}}, method: GET}}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: books}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}
  requiredAuthenticationRefs: [{{group: policyd.dev, kind: MeshTLSAuthentication, name: {who}}}]
"""
EVERYBODY = """\
---
apiVersion: policyd.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: everybody, namespace: books}
spec: {identities: ["*"]}
"""


def test_of_two_lines_the_one_that_lets_in_fewer_is_taken(tmp_path: Path) -> None:
    """Either route could take the request; by `a` the whole mesh would be let in with the caller."""
    readers = READERS.partition("---\n")[0]
    both = ROUTE.format(name="a", who="everybody") + ROUTE.format(name="b", who="readers")
    fix = fix_of(tmp_path, readers + EVERYBODY + both, asked("webapp", "/c"))
    assert fix.summary == ("let HTTPRoute books/b take GET /c",)
    assert [each.only_listed for each in fix.also_allows] == [True]


def test_the_patch_applies_and_the_request_is_allowed(tmp_path: Path) -> None:
    question = asked("editor", "/one")
    fix = fix_of(tmp_path, READERS, question)
    after = patched(fix, tmp_path)
    place = after.place(parse_workload("deployment/books/authors"))
    assert place is not None
    assert decide(after, place, question).allowed
    assert "# the shop" in (tmp_path / "world.yaml").read_text()


def test_a_new_grant_is_for_that_caller_and_request_only(tmp_path: Path) -> None:
    fix = fix_of(tmp_path, "", asked("editor", "/one"))
    assert fix.also_allows == ()
    assert "kind: AuthorizationPolicy" in fix.patch
    assert "- /one" in fix.patch


def test_a_denied_identity_is_excepted_rather_than_the_deny_removed(tmp_path: Path) -> None:
    ban = """---
apiVersion: policyd.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: interns, namespace: books}
spec: {identities: ["spiffe://cluster.local/ns/books/sa/*"]}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: ban, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: authors}
  action: Deny
  requiredAuthenticationRefs: [{group: policyd.dev, kind: MeshTLSAuthentication, name: interns}]
"""
    fix = fix_of(tmp_path, READERS + ban, asked("webapp"))
    assert fix.summary == ("except books/webapp from MeshTLSAuthentication books/interns",)
    assert [each.text for each in fix.also_allows] == [
        "authorizationpolicy/books/ban no longer refuses books/webapp, for everything"
        " on deployment/books/authors port 8080"
    ]


def test_an_expired_grant_is_extended(tmp_path: Path) -> None:
    fix = fix_of(tmp_path, READERS + '  validUntil: "2026-01-01T00:00:00Z"\n', asked("webapp"))
    assert fix.summary == ("extend AuthorizationPolicy books/readers until 2026-11-22T12:00:00Z",)


SHELF = """---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shelf, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: authors}]
  rules:
  - matches:
    - path: {type: PathPrefix, value: /shelf}
"""


def test_two_changes_are_found_where_one_is_not_enough(tmp_path: Path) -> None:
    fix = fix_of(tmp_path, READERS + SHELF, asked("editor", "/attic"))
    assert len(fix.summary) == 2
    assert fix.summary[0] == "let HTTPRoute books/shelf take GET /attic"


def as_in_a_cluster(folder: Path, text: str) -> tuple[Manifests, Place]:
    """The same world without any file."""
    read(folder, text)
    documents = parse((WORLD + text).encode(), "world.yaml").documents
    objects = [found for each in documents if (found := read_object(Document(each.content)))]
    manifests = Manifests.of(objects)
    place = manifests.place(parse_workload("deployment/books/authors"))
    assert place is not None
    return manifests, place


@pytest.mark.parametrize(
    ("text", "question"),
    [
        pytest.param(READERS, asked("editor"), id="an item more"),
        pytest.param("", asked("editor", "/one"), id="a new object"),
        pytest.param(READERS + '  validUntil: "2026-01-01T00:00:00Z"\n', asked("webapp"), id="another value"),
        pytest.param(READERS + SHELF, asked("editor", "/attic"), id="two changes"),
    ],
)
def test_an_object_of_a_cluster_is_changed_as_its_file_would_be(
    text: str, question: Question, tmp_path: Path
) -> None:
    wanted = fix_of(tmp_path, text, question)
    manifests, place = as_in_a_cluster(tmp_path, text)
    before = manifests.world.state_hash
    fix = smallest_fix(manifests, place, question)
    assert fix is not None
    assert (fix.summary, fix.also_allows) == (wanted.summary, wanted.also_allows)
    assert all(file.endswith(".yaml") and "/books/" in file for file in fix.files)
    assert manifests.world.state_hash == before
    changed = [line[1:].strip() for line in fix.patch.splitlines() if line.startswith("+ ")]
    assert changed, fix.patch


def test_what_kubectl_remembers_of_an_object_is_no_part_of_the_change() -> None:
    meta = {"name": "a", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}
    assert yaml.safe_load(on_paper(Document({"kind": "Server", "metadata": meta, "status": {}}))) == {
        "kind": "Server",
        "metadata": {"name": "a"},
    }


def test_there_is_no_fix_for_what_the_gate_refuses(tmp_path: Path) -> None:
    manifests, place = read(tmp_path, READERS)
    assert smallest_fix(manifests, place, asked("webapp", "/a/../b")) is None


def test_looking_for_a_fix_leaves_the_world_as_it_was(tmp_path: Path) -> None:
    manifests, place = read(tmp_path, READERS)
    before = manifests.world.state_hash, manifests.compiler.tables[place.workload].version
    smallest_fix(manifests, place, asked("editor"))
    assert (manifests.world.state_hash, manifests.compiler.tables[place.workload].version) == before


def denials() -> Iterator[object]:
    """One denial in seven of all cases."""
    found = [
        (file, index)
        for file in find_tests([CASES]).files
        for index, case in enumerate(file.test.cases)
        if case.expect.reason in BY_POLICY
    ]
    for file, index in found[::7]:
        yield pytest.param(file.path, file.test.metadata.name, index, id=file.test.cases[index].name)


@pytest.mark.parametrize(("path", "name", "index"), list(denials()))
def test_applying_a_cases_fix_allows_its_request(path: Path, name: str, index: int, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(path.parent, copy)
    file = next(each for each in find_tests([copy / path.name]).files if each.test.metadata.name == name)
    manifests = Manifests.read(file.manifests())
    question = ask(manifests, file, file.test.cases[index], AT)
    fix = smallest_fix(manifests, question.place, question.question)
    if fix is None:
        pytest.skip("no small change allows it")
    patched(fix, copy)
    after = Manifests.read(file.manifests())
    place = after.place(question.place.workload)
    assert place is not None
    assert decide(after, place, question.question).allowed
