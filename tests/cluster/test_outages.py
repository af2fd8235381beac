"""The control plane dies or is replaced, under load: no request fails, nothing wrong gets through."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from identity.spiffe_id import TrustDomain
from policyd.install.issuer import make_issuer
from tests.cluster.cluster import COMPONENTS, CONTROL_PLANE, Cluster
from tests.cluster.load import URL, let_pass, under_load
from tests.cluster.policy_cases import OURS
from tests.cluster.report import note

LIFETIME = "60s"
"""Of certificates while the root is rotated, so that all are renewed while the test lasts."""
RENEWED_SECONDS = 120.0
TAKEN_UP_SECONDS = 90.0
REMOVED_SECONDS = 60.0
"""Promise P-18: how long an old root may be usable after its removal, once identity has heard of it."""
AWAY_SECONDS = 5.0
Object = dict[str, Any]


@pytest.mark.promise("P-1")
@pytest.mark.parametrize("component", COMPONENTS)
def test_p_1_a_killed_control_plane_pod_costs_no_request(guarded: Cluster, component: str) -> None:
    selector = f"app.kubernetes.io/component={component}"
    [pod] = guarded.get("pods", "-n", CONTROL_PLANE, "-l", selector)["items"]
    with under_load(guarded, f"{component} killed"):
        guarded.kubectl(
            "delete", "pod", "-n", CONTROL_PLANE, pod["metadata"]["name"], "--force", "--grace-period=0"
        )
        guarded.rolled_out(CONTROL_PLANE, component)


@pytest.mark.promise("P-1")
def test_p_1_without_api_server_or_control_plane_proxies_go_on(guarded: Cluster) -> None:
    with under_load(guarded, "API server and control plane away"):
        with guarded.node.away():
            let_pass(AWAY_SECONDS)
        for component in COMPONENTS:
            guarded.kubectl("scale", "-n", CONTROL_PLANE, f"deployment/{component}", "--replicas=0")
        guarded.node.wait(
            "the control plane is away", lambda: not guarded.get("pods", "-n", CONTROL_PLANE)["items"], 60.0
        )
        let_pass(AWAY_SECONDS)
        for component in COMPONENTS:
            guarded.kubectl("scale", "-n", CONTROL_PLANE, f"deployment/{component}", "--replicas=1")
        guarded.rolled_out(CONTROL_PLANE)
    # And it works again: what is changed is enforced.
    everybody = _everybody()
    guarded.apply(everybody)
    _answered(guarded, "bot", 200)
    guarded.delete(everybody)
    _answered(guarded, "bot", 403)


@pytest.mark.promise("P-1")
def test_p_1_a_proxy_that_is_killed_meanwhile_takes_up_its_last_table(guarded: Cluster) -> None:
    """policyd is away, so the only source is what is in the pod: signed, and verified."""
    guarded.kubectl("scale", "-n", CONTROL_PLANE, "deployment/policyd", "--replicas=0")
    try:
        guarded.node.wait("policyd is away", lambda: "policyd" not in _running(guarded), 60.0)
        for pod in guarded.pods("shop", "server"):
            _kill_proxy(guarded, pod)
        for who, status in (("web", 200), ("bot", 403)):
            _answered(guarded, who, status)
    finally:
        guarded.kubectl("scale", "-n", CONTROL_PLANE, "deployment/policyd", "--replicas=1")
    guarded.rolled_out(CONTROL_PLANE)
    guarded.rolled_out("shop")


@pytest.mark.promise("P-11")
def test_p_11_a_rolling_restart_loses_no_request(guarded: Cluster) -> None:
    with under_load(guarded, "servers and control plane restarted"):
        guarded.kubectl("rollout", "restart", "-n", "shop", "deployment/server")
        guarded.rolled_out("shop", "server")
        guarded.kubectl("rollout", "restart", "-n", CONTROL_PLANE, "deployment")
        guarded.rolled_out(CONTROL_PLANE)


@pytest.mark.promise("P-18")
def test_p_18_root_and_issuer_are_rotated_under_load(guarded: Cluster) -> None:
    """As the documents say: trust both roots, sign with the new issuer, trust the new root alone."""
    _short_certificates(guarded)
    old = guarded.get("configmap", "-n", CONTROL_PLANE, "policyd-trust-roots")["data"]["root.crt"]
    made = make_issuer(TrustDomain("cluster.local"), datetime.now(UTC))
    new = made.material.roots
    with under_load(guarded, "root and issuer rotated"):
        began = time.monotonic()
        _trust(guarded, old + new)
        _published(guarded, [old, new])
        taken_up = time.monotonic() - began
        _sign_with(guarded, made.material.certificate or "", made.material.key or "")
        _renewed(guarded)
        renewed = time.monotonic() - began
        _trust(guarded, new)
        _published(guarded, [new])
    note(
        f"a new root is believed after {taken_up:.0f} s, all certificates are its own after "
        f"{renewed:.0f} s, "
        f"the old one is gone after {time.monotonic() - began:.0f} s"
    )


def _answered(cluster: Cluster, who: str, status: int) -> None:
    answer = cluster.agent("shop", who).ask("until", ask={"do": "get", "url": URL}, status=status, seconds=30)
    assert answer["at"] is not None, answer


def _everybody() -> Object:
    target = {"group": "policyd.dev", "kind": "Server", "name": "http"}
    return {
        "apiVersion": OURS,
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "everybody", "namespace": "shop"},
        "spec": {"targetRef": target, "requiredAuthenticationRefs": []},
    }


def _running(cluster: Cluster) -> set[str]:
    pods = cluster.get("pods", "-n", CONTROL_PLANE)["items"]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in pods}


def _kill_proxy(cluster: Cluster, pod: Object) -> None:
    [status] = [each for each in pod["status"]["initContainerStatuses"] if each["name"] == "policyd-proxy"]
    cluster.node.ctr("task", "kill", "-s", "KILL", status["containerID"].removeprefix("containerd://"))

    def again() -> bool:
        now = cluster.get("pod", "-n", "shop", pod["metadata"]["name"])
        return any(
            each["name"] == "policyd-proxy" and each["restartCount"] > status["restartCount"]
            for each in now["status"]["initContainerStatuses"]
        )

    cluster.node.wait("the proxy is started again", again, 60.0)


def _short_certificates(cluster: Cluster) -> None:
    found = cluster.get("configmap", "-n", CONTROL_PLANE, "identity-settings")["data"]["settings.json"]
    settings = json.dumps(json.loads(found) | {"leafLifetime": LIFETIME})
    _patch(cluster, "configmap/identity-settings", {"data": {"settings.json": settings}})
    cluster.kubectl("rollout", "restart", "-n", CONTROL_PLANE, "deployment/identity")
    cluster.rolled_out(CONTROL_PLANE)
    for space, deployment in ((CONTROL_PLANE, "policyd"), ("shop", "")):
        cluster.kubectl("rollout", "restart", "-n", space, f"deployment/{deployment}".rstrip("/"))
        cluster.rolled_out(space)


def _trust(cluster: Cluster, roots: str) -> None:
    file = _file(cluster, "roots.crt", roots)
    _replace(cluster, "configmap", "policyd-trust-roots", f"--from-file=root.crt={file}")


def _sign_with(cluster: Cluster, certificate: str, key: str) -> None:
    files = _file(cluster, "issuer.crt", certificate), _file(cluster, "issuer.key", key)
    _replace(cluster, "secret", "tls", "policyd-issuer", f"--cert={files[0]}", f"--key={files[1]}")


def _replace(cluster: Cluster, *words: str) -> None:
    """Do as `docs/how-to/install.md` says, in its words."""
    made = cluster.kubectl("-n", CONTROL_PLANE, "create", *words, "--dry-run=client", "-o", "yaml")
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=rotation", "-f", "-"), stdin=made
    )


def _file(cluster: Cluster, name: str, text: str) -> Path:
    file = cluster.node.folder / name
    file.write_text(text)
    return file


def _patch(cluster: Cluster, what: str, change: Object) -> None:
    cluster.kubectl("patch", "-n", CONTROL_PLANE, what, "--type=merge", "-p", json.dumps(change))


def _published(cluster: Cluster, roots: list[str]) -> None:
    """Wait until the bundle of the shop's namespace holds just these roots."""

    def done() -> bool:
        bundle = cluster.get("configmap", "-n", "shop", "policyd-trust-bundle")["data"]["ca.pem"]
        return _certificates(bundle) == {each for root in roots for each in _certificates(root)}

    cluster.node.wait(f"{len(roots)} roots are published", done, TAKEN_UP_SECONDS)


def _renewed(cluster: Cluster) -> None:
    """Wait until every proxy of the shop has had two certificates more, and the first of them has ended.

    The second is the new issuer's; then nothing that is open rests on one of the old issuer's any more.
    """

    def ends() -> dict[str, list[str]]:
        return {pod["metadata"]["name"]: _ends(cluster, pod) for pod in cluster.pods("shop")}

    before = ends()

    def done() -> bool:
        now, found = datetime.now(UTC).isoformat(), ends()
        return all(
            len(found[name]) >= len(former) + 2 and found[name][len(former)] < now
            for name, former in before.items()
        )

    cluster.node.wait("all certificates are the new issuer's", done, RENEWED_SECONDS)


def _ends(cluster: Cluster, pod: Object) -> list[str]:
    """Return when each certificate that a pod has had ends, or ended; RFC 3339 compares as text."""
    lines = cluster.logs("shop", pod["metadata"]["name"], "policyd-proxy").splitlines()
    told = [json.loads(line) for line in lines if '"message":"certified"' in line]
    return [each["not_after"] for each in told]


def _certificates(pem: str) -> set[str]:
    return {each.strip() for each in pem.split("-----END CERTIFICATE-----") if each.strip()}
