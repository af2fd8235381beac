"""What is refused at admission is what the reader can't read, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.admission.validate import validate
from policyd.model.names import GATEWAY
from policyd.resources.base import Document, Unreadable
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse

ROOT = Path(__file__).parents[4]

Json = dict[str, Any]


def manifest(kind: str, spec: object, api_version: str = "policyd.dev/v1alpha1") -> Json:
    metadata = {"name": "it", "namespace": "books", "generation": 1}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


GOOD = manifest("Server", {"podSelector": {}, "port": 8080})
BAD = manifest("Server", {"podSelector": {}, "port": 0})


def fields(*judged: Any) -> list[str]:
    return [each.field for each in judged]


def test_an_object_that_can_be_read_is_stored() -> None:
    assert validate(GOOD) == validate(GOOD, GOOD)
    assert validate(GOOD).errors == ()


def test_wh_06_an_object_that_cannot_be_read_is_refused_with_field_value_and_what_was_expected() -> None:
    (error,) = validate(BAD).errors
    assert (error.field, error.message) == ("spec.port", "0 is no port: expected a number from 1 to 65535")


def test_references_to_what_is_not_there_are_no_reason() -> None:
    policy = manifest(
        "AuthorizationPolicy",
        {
            "targetRef": {"group": "policyd.dev", "kind": "Server", "name": "absent"},
            "requiredAuthenticationRefs": [
                {"group": "policyd.dev", "kind": "MeshTLSAuthentication", "name": "absent"}
            ],
        },
    )
    assert validate(policy).errors == ()


def test_what_is_not_ours_is_nobodys_business() -> None:
    assert validate(manifest("Database", {"x": 1}, "example.com/v1")).errors == ()


def test_an_unreadable_object_can_be_labelled_and_deleted() -> None:
    labelled = {**BAD, "metadata": {**BAD["metadata"], "labels": {"a": "b"}}}
    judged = validate(labelled, BAD)
    assert (judged.errors, fields(*judged.warnings)) == ((), ["spec.port"])
    going = {
        **BAD,
        "spec": {"port": -1},
        "metadata": {**BAD["metadata"], "deletionTimestamp": "2026-11-21T00:00:00Z"},
    }
    assert validate(going, BAD).errors == ()
    assert validate({**BAD, "spec": {"podSelector": {}, "port": -1}}, BAD).errors


def test_a_generated_name_is_a_name() -> None:
    server = {**GOOD, "metadata": {"generateName": "web-"}}
    assert validate(server, namespace="books").errors == ()
    policy = manifest(
        "AuthorizationPolicy",
        {"targetRef": {"kind": "Namespace", "name": "books"}, "requiredAuthenticationRefs": []},
    )
    policy["metadata"] = {"generateName": "all-"}
    assert validate(policy, namespace="books").errors == ()
    assert validate(policy, namespace="shelves").errors


def route(parent: Json, api_version: str = f"{GATEWAY}/v1", **rule: object) -> Json:
    return manifest("HTTPRoute", {"parentRefs": [parent], "rules": [rule]}, api_version)


OURS = {"group": "policyd.dev", "kind": "Server", "name": "web"}
GATE = {"name": "entrance"}
FILTER: Json = {"filters": [{"type": "URLRewrite"}]}


def test_a_route_of_gateway_api_is_ours_to_judge_where_it_hangs_on_a_server() -> None:
    assert fields(*validate(route(OURS, **FILTER)).errors) == ["spec.rules[0].filters[0]"]
    judged = validate(route(GATE, **FILTER))
    assert (judged.errors, fields(*judged.warnings)) == ((), ["spec.rules[0].filters[0]"])
    assert validate(route(OURS, novelty=1)).errors == ()
    assert fields(*validate(route(OURS, novelty=1)).warnings) == ["spec.rules[0].novelty"]
    assert validate(route(OURS, matches=[{"novelty": 1}])).errors


def test_a_route_of_linkerd_is_ours_whatever_it_hangs_on() -> None:
    assert validate(route(GATE, "policy.linkerd.io/v1beta3", novelty=1)).errors


def test_mesh_defaults_are_refused_for_any_part_that_cannot_be_read() -> None:
    assert fields(*validate(manifest("MeshDefaults", {"deny": [{"name": "x"}]})).errors) == ["spec.deny[0]"]
    assert validate(manifest("MeshDefaults", {"maxdefault": "deny"})).errors
    judged = validate(manifest("MeshDefaults", {"defaultAccess": "audit"}))
    assert (judged.errors, fields(*judged.warnings)) == ((), ["metadata.name"])


CASES = sorted((ROOT / "tests" / "cases").rglob("*.yaml")) + sorted((ROOT / "policies").rglob("*.yaml"))


def every_manifest() -> Iterator[Document]:
    for file in CASES:
        yield from parse(file.read_bytes(), str(file)).documents


def test_ct_04_stored_or_refused_it_is_the_same_reading() -> None:
    """All objects of cases and samples: refused at admission exactly where the compiler can't read them."""
    refused = 0
    for document in every_manifest():
        found = read(document)
        if found is None or found.key.group == GATEWAY:
            continue
        judged = validate(document.content)
        unreadable = isinstance(found, Unreadable) or any(each.severity == "error" for each in found.findings)
        assert bool(judged.errors) is unreadable, document.origin().text
        refused += unreadable
    assert refused > 50


JUNK: list[object] = [None, [], "text", 7, True, {"spec": None}, {"podSelector": None, "port": None}]


@pytest.mark.parametrize("spec", JUNK, ids=str)
@pytest.mark.parametrize("kind", ["Server", "AuthorizationPolicy", "MeshTLSAuthentication", "RegoPolicy"])
def test_ct_04_what_violates_the_schema_is_refused_in_words(kind: str, spec: object) -> None:
    judged = validate(manifest(kind, spec))
    assert judged.errors
    assert all(each.message and len(each.message) < 1000 for each in judged.errors)


def test_ct_04_a_spec_of_a_mebibyte_and_ten_thousand_labels() -> None:
    long = manifest("MeshTLSAuthentication", {"identities": ["x" * 2**20]})
    (error,) = validate(long).errors
    assert len(error.message) < 500
    long["metadata"]["labels"] = {f"label-{index}": "x" for index in range(10_000)}
    assert validate(long).errors


def test_every_sample_is_stored() -> None:
    for file in sorted((ROOT / "policies").rglob("*.yaml")):
        for written in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            assert validate(written).errors == (), file
