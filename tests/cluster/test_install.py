"""Installed by the two commands that the documents give: everything runs, with the least rights."""

from __future__ import annotations

import json

import pytest

from tests.api.rig import RigError
from tests.cluster.cluster import COMPONENTS, CONTROL_PLANE, Cluster, ready


@pytest.mark.promise("P-17")
def test_p_17_the_control_plane_is_ready_under_pod_security_restricted(mesh: Cluster) -> None:
    labels = mesh.get("namespace", CONTROL_PLANE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    found = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in mesh.pods(CONTROL_PLANE)
    }
    assert set(found) == set(COMPONENTS)
    for component, pod in found.items():
        assert ready(pod), component
        [status] = pod["status"]["containerStatuses"]
        assert status["restartCount"] == 0, mesh.logs(CONTROL_PLANE, pod["metadata"]["name"], component)


def test_check_finds_nothing_wrong(mesh: Cluster) -> None:
    told = json.loads(mesh.policyctl("check", "-o", "json"))
    wrong = [each for each in told["checks"] if each["result"] != "ok"]
    assert not wrong


def test_the_trust_bundle_is_in_every_namespace(mesh: Cluster) -> None:
    namespaces = {each["metadata"]["name"] for each in mesh.get("namespaces")["items"]}
    found = mesh.get("configmaps", "-A", "--field-selector=metadata.name=policyd-trust-bundle")["items"]
    assert {each["metadata"]["namespace"] for each in found} == namespaces


def test_wh_06_an_object_that_cannot_be_read_is_refused_with_field_and_value(mesh: Cluster) -> None:
    written = {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "typo", "namespace": "default"},
        "spec": {
            "targetRef": {"kind": "Namespace", "name": "default"},
            "requiredAuthenticationRefs": [],
            "acction": "Deny",
        },
    }
    with pytest.raises(RigError, match=r"spec\.acction: unknown field 'acction'.*did you mean action"):
        mesh.apply(written)


def test_an_upgrade_changes_what_it_says_and_nothing_else(mesh: Cluster) -> None:
    issuer = mesh.get("secret", "-n", CONTROL_PLANE, "policyd-issuer")["data"]
    mesh.kubectl("apply", "--server-side", "-f", "-", stdin=mesh.policyctl("install", "--crds"))
    again = mesh.policyctl("upgrade", "--set", "resources.identity.memory=100Mi")
    said = mesh.kubectl("apply", "-f", "-", stdin=again).splitlines()
    changed = {line.partition(" ")[0] for line in said if not line.endswith("unchanged")}
    mesh.rolled_out(CONTROL_PLANE)
    assert mesh.get("secret", "-n", CONTROL_PLANE, "policyd-issuer")["data"] == issuer
    assert "deployment.apps/identity" in changed
    assert not {"deployment.apps/policyd", "deployment.apps/injector"} & changed
