"""The CRDs say what the models say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.model.names import POLICYD
from policyd.resources import crd
from policyd.resources.registry import KINDS

DEFINITIONS = {each.kind: yaml.safe_load(yaml.safe_dump(crd.definition(each))) for each in crd.CRDS}
FORBIDDEN = {"$ref", "anyOf", "oneOf", "title", "const", "propertyNames", "patternProperties", "nullable"}


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def every_schema(part: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*part.get("properties", {}).values()]
    inner += [part[name] for name in ("items", "additionalProperties") if isinstance(part.get(name), dict)]
    return [part, *(each for one in inner for each in every_schema(one))]


def test_they_are_fresh() -> None:
    assert crd.FILES.stale() == []


def test_staleness_is_seen(tmp_path: Path) -> None:
    crd.FILES.write(tmp_path)
    assert crd.FILES.stale(tmp_path) == []
    (tmp_path / "other.yaml").write_text("a: b")
    (tmp_path / "policyd.dev_servers.yaml").write_text("a: b")
    assert crd.FILES.stale(tmp_path) == ["other.yaml", "policyd.dev_servers.yaml"]


def test_every_kind_of_ours_has_one() -> None:
    ours = {name for group, name in KINDS if group == POLICYD} - {"JWTAuthentication"}
    assert DEFINITIONS.keys() == ours


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_is_described(kind: str) -> None:
    assert list(crd.undescribed(schema(kind))) == []


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_they_are_structural(kind: str) -> None:
    for part in every_schema(schema(kind)):
        assert not FORBIDDEN & part.keys()
        assert "type" in part or part.get("x-kubernetes-int-or-string"), part
        assert not ("properties" in part and "additionalProperties" in part)


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_everything_is_bounded(kind: str) -> None:
    """CEL's cost is estimated from the bounds: without them the API server refuses the CRD."""
    for part in every_schema(schema(kind)["properties"]["spec"]):
        if part.get("type") == "array":
            assert "maxItems" in part, part
        if part.get("type") == "string":
            assert "maxLength" in part or "enum" in part, part
        if "additionalProperties" in part:
            assert "maxProperties" in part, part


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_unknown_fields_are_kept(kind: str) -> None:
    """The API server would drop them, and with a misspelt condition a grant's scope."""
    for part in every_schema(schema(kind)["properties"]["spec"]):
        if "properties" in part:
            assert part["x-kubernetes-preserve-unknown-fields"] is True


def test_defaults_and_enums_are_there() -> None:
    spec = schema("AuthorizationPolicy")["properties"]["spec"]["properties"]
    assert (spec["action"]["default"], spec["mode"]["default"]) == ("Allow", "Enforce")
    assert spec["action"]["enum"] == ["Allow", "Deny", "Require"]
    assert "default" not in spec["when"]
    server = schema("Server")["properties"]["spec"]["properties"]
    assert server["accessPolicy"]["default"] == "deny"
    opa = schema("MeshDefaults")["properties"]["spec"]["properties"]["opa"]["properties"]
    assert opa["timeout"]["default"] == "100ms"


def test_rules_over_several_fields_are_cel() -> None:
    rules = [
        rule["rule"]
        for kind in DEFINITIONS
        for part in every_schema(schema(kind))
        for rule in part.get("x-kubernetes-validations", [])
    ]
    assert any("podSelector" in rule for rule in rules)
    assert any("__in__" in rule for rule in rules)
    assert any("withoutIdentity" in rule for rule in rules)


def test_every_definition_has_a_status_and_columns() -> None:
    for made in DEFINITIONS.values():
        version = made["spec"]["versions"][0]
        assert version["subresources"] == {"status": {}}
        assert version["additionalPrinterColumns"]
        assert made["spec"]["names"]["shortNames"]
