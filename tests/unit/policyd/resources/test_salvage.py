"""What an unreadable object still says (semantics U2, U3)."""

from collections.abc import Callable
from typing import Any

import pytest

from policyd.resources.base import Resource, Unreadable

SpecOf = Callable[[str, str, str], Resource[Any] | Unreadable]
OURS, LINKERD = "policyd.dev/v1alpha1", "policy.linkerd.io/v1alpha1"
TARGET = "targetRef: {group: policyd.dev, kind: Server, name: web}"


def salvaged(found: Resource[Any] | Unreadable) -> dict[str, Any]:
    assert isinstance(found, Unreadable)
    return dict(found.salvage)


@pytest.mark.shows("U2")
def test_a_policy_keeps_what_is_valid_by_itself(spec_of: SpecOf) -> None:
    spec = f"{{{TARGET}, action: Deny, mode: Audit, when: [{{method: {{in: [GET]}}}}], colour: red}}"
    found = salvaged(spec_of(OURS, "AuthorizationPolicy", spec))
    assert (found["action"], found["mode"], found["target_ref"].name) == ("Deny", "Audit", "web")
    assert found["when"][0].subject == "method"
    assert "required_authentication_refs" not in found


@pytest.mark.shows("U2")
@pytest.mark.parametrize(
    ("spec", "lost"),
    [
        (f"{{{TARGET}, action: Block}}", "action"),
        (f"{{{TARGET}, action: }}", "action"),
        (f"{{{TARGET}, action: [Deny]}}", "action"),
        (f"{{{TARGET}, mode: Dry}}", "mode"),
        (f"{{{TARGET}, when: [{{}}]}}", "when"),
        ("{targetRef: {kind: Pod, name: a}}", "target_ref"),
        ("{targetRef: {group: policyd.dev, kind: Server, name: web, port: 1}}", "target_ref"),
        ("{targetRef: {kind: Namespace, name: elsewhere}}", "target_ref"),
    ],
)
def test_what_cannot_be_read_is_not_salvaged(spec_of: SpecOf, spec: str, lost: str) -> None:
    found = salvaged(spec_of(OURS, "AuthorizationPolicy", spec))
    assert lost not in found
    assert {"action", "mode", "when", "target_ref"} - {lost} <= found.keys()


@pytest.mark.parametrize("spec", ["[]", "text", ""])
def test_nothing_is_salvaged_of_no_mapping(spec_of: SpecOf, spec: str) -> None:
    assert salvaged(spec_of(OURS, "AuthorizationPolicy", spec)) == {}


@pytest.mark.shows("A1")
@pytest.mark.parametrize("spec", ["[]", "{action: Deny, mode: Audit}", "{action: Block}"])
def test_linkerds_policies_are_allows_whatever_they_say(spec_of: SpecOf, spec: str) -> None:
    found = salvaged(spec_of(LINKERD, "AuthorizationPolicy", spec))
    assert (found["action"], found["mode"], found["when"]) == ("Allow", "Enforce", ())


@pytest.mark.shows("U3")
def test_a_server_keeps_selector_and_port(spec_of: SpecOf) -> None:
    found = salvaged(spec_of(OURS, "Server", "{podSelector: {}, port: 80, accessPolicy: denied}"))
    assert found["pod_selector"].matches({"any": "thing"})
    assert (found["port"], found["external_workload_selector"]) == (80, None)


@pytest.mark.shows("U3")
def test_of_two_selectors_none_is_kept(spec_of: SpecOf) -> None:
    found = salvaged(spec_of(OURS, "Server", "{podSelector: {}, externalWorkloadSelector: {}, port: 80}"))
    assert "pod_selector" not in found
    assert "external_workload_selector" not in found


@pytest.mark.shows("U1")
def test_a_rego_policy_keeps_target_and_mode(spec_of: SpecOf) -> None:
    found = salvaged(spec_of(OURS, "RegoPolicy", f"{{{TARGET}, mode: Audit, module: 'package a'}}"))
    assert (found["mode"], found["target_ref"].name) == ("Audit", "web")


def test_a_jwt_authentication_is_a_reserved_name(spec_of: SpecOf) -> None:
    found = spec_of(OURS, "JWTAuthentication", "{}")
    assert [problem.code for problem in found.findings] == ["not-supported"]
