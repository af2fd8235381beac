"""A namespace is adopted: its pods restart with proxies, nothing breaks, and all is authenticated."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import SIDECARS, Cluster, ready
from tests.cluster.manifests import IMAGE, caller, namespace
from tests.cluster.needs import ROOT
from tests.cluster.report import note

SAMPLE = ROOT / "policies" / "emojivoto"
SPACE = "emojivoto"
APPLICATIONS = {"web": "web-svc", "emoji": "emoji-svc", "voting": "voting-svc", "vote-bot": "vote-bot"}
"""By Deployment: its pods' label `app`, which is their container's name, too."""
CALLS_SECONDS = 30.0
BOTS_REQUESTS = 8
"""How many different ones the bot makes in a round (apps/vote_bot.py)."""
LABEL = "policyd.dev/inject"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def emojivoto(mesh: Cluster) -> Iterator[Cluster]:
    """The sample, as somebody has it who never heard of a mesh: no annotation, and then the label."""
    objects = [each for each in yaml.safe_load_all((SAMPLE / "emojivoto.yaml").read_text()) if each]
    objects[0]["metadata"].pop("annotations")
    # The kubelet puts addresses of Services into containers that start after them.
    objects.sort(key=lambda each: each["kind"] == "Deployment")
    mesh.apply(*objects)
    mesh.rolled_out(SPACE)
    yield mesh
    mesh.kubectl("delete", "namespace", SPACE)


def calls(cluster: Cluster, app: str, since: str) -> list[Object]:
    """Return what an application says of its calls."""
    label = APPLICATIONS[app]
    pod = cluster.pod(SPACE, label)["metadata"]["name"]
    lines = cluster.logs(SPACE, pod, label, f"--since-time={since}").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_before_adoption_it_works_without_proxies(emojivoto: Cluster) -> None:
    for app in APPLICATIONS.values():
        assert "initContainers" not in emojivoto.pod(SPACE, app)["spec"], app
    assert _refused(emojivoto, now()) == set()


def test_after_the_label_and_a_restart_every_pod_has_its_sidecar_and_nothing_breaks(
    emojivoto: Cluster,
) -> None:
    emojivoto.kubectl("label", "namespace", SPACE, f"{LABEL}=enabled")
    began = time.monotonic()
    emojivoto.kubectl("rollout", "restart", "-n", SPACE, "deployment")
    emojivoto.rolled_out(SPACE)
    note(f"emojivoto restarted with proxies within {time.monotonic() - began:.0f} s")
    emojivoto.node.wait("old pods are gone", lambda: len(emojivoto.get("pods", "-n", SPACE)["items"]) == 4)
    for app in APPLICATIONS.values():
        pod = emojivoto.pod(SPACE, app)
        ours = pod["spec"]["initContainers"][: len(SIDECARS)]
        assert tuple(each["name"] for each in ours) == SIDECARS
        assert ours[-1]["restartPolicy"] == "Always"
        assert ready(pod)
        statuses = [*pod["status"]["initContainerStatuses"][-1:], *pod["status"]["containerStatuses"]]
        assert [each["ready"] for each in statuses] == [True, True], app
        assert [each["restartCount"] for each in statuses] == [0, 0], app
    assert _refused(emojivoto, now()) == set()


def test_all_calls_are_mutually_authenticated_and_what_would_be_denied_is_recorded(
    emojivoto: Cluster,
) -> None:
    began = now()  # before, pods that had no proxy yet called those that had one

    def records() -> list[tuple[str, Object]]:
        return [
            (app, record)
            for app in ("web", "emoji", "voting")
            for record in emojivoto.records(SPACE, APPLICATIONS[app])
            if record["time"] >= began
        ]

    def seen() -> set[tuple[str, str]]:
        return {(str(record["peer"]["identity"]).rpartition("/")[2], app) for app, record in records()}

    wanted = {("vote-bot", "web"), ("web", "emoji"), ("web", "voting"), ("vote-bot", "voting")}
    emojivoto.node.wait("every way is recorded", lambda: wanted <= seen(), CALLS_SECONDS)
    for _, record in records():
        assert record["verdict"] == "allow"
        assert record["audit"]["verdict"] == "deny"
        assert record["peer"]["identity"].startswith(f"spiffe://cluster.local/ns/{SPACE}/sa/")


def test_its_policies_are_enforced_as_written(emojivoto: Cluster) -> None:
    """Linkerd's kinds and Gateway API's routes; the bot isn't among those who may vote past the site."""
    emojivoto.apply(SAMPLE / "policy.yaml")

    def denied() -> Object | None:
        """The newest, since the first may be of a moment when not all of the file was applied."""
        votes = [
            each
            for each in calls(emojivoto, "vote-bot", since)
            if each["request"] == "VoteGhost" and each.get("grpcStatus") == 7
        ]
        record = emojivoto.record(SPACE, "voting-svc", votes[-1]["decision"]) if votes else None
        return record if record and record["route"] else None

    since = now()
    record = emojivoto.node.wait("the bot's vote is denied", denied, CALLS_SECONDS)
    assert record["reason"] == "no_matching_rule"
    assert record["route"] == f"grpcroute.gateway.networking.k8s.io/{SPACE}/vote"
    refused = _refused(emojivoto, now())
    # By design (its README): a vote without a route, the bot's own vote, and metrics.
    assert refused <= {"GET /api/vote?choice=:poop:", "VotePoop", "VoteGhost", "GET /metrics"}
    assert {"VoteGhost", "GET /metrics"} <= refused


def test_a_job_ends_though_its_proxy_would_not(emojivoto: Cluster) -> None:
    """A native sidecar ends when the others have."""
    command = ["python3", "-c", "print('done')"]
    container = {"name": "app", "image": IMAGE, "imagePullPolicy": "Never", "command": command}
    pod = {"restartPolicy": "Never", "containers": [container]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once", "namespace": SPACE},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    emojivoto.apply(job)
    emojivoto.kubectl("wait", "-n", SPACE, "--for=condition=Complete", "job/once", "--timeout=60s")


def test_manifests_are_injected_by_command_where_no_webhook_asks(mesh: Cluster, tmp_path: Path) -> None:
    manifest = tmp_path / "caller.yaml"
    manifest.write_text(yaml.safe_dump_all(caller("by-hand", "web")))
    mesh.apply(namespace("by-hand", enrolled=False))
    mesh.kubectl("apply", "-f", "-", stdin=mesh.policyctl("inject", "--installed", "-f", str(manifest)))
    mesh.rolled_out("by-hand")
    pod = mesh.pod("by-hand", "web")
    assert tuple(each["name"] for each in pod["spec"]["initContainers"]) == SIDECARS
    assert ready(pod)
    mesh.kubectl("delete", "namespace", "by-hand")


def _refused(cluster: Cluster, since: str) -> set[str]:
    """Return what the bot and the site were refused in one round; waits until there was one."""

    def round_made() -> list[Object]:
        bots, sites = calls(cluster, "vote-bot", since), calls(cluster, "web", since)
        return [*bots, *sites] if len({each["request"] for each in bots}) >= BOTS_REQUESTS else []

    made = cluster.node.wait("the bot's round", round_made, CALLS_SECONDS)
    good = ({"status": 200}, {"grpcStatus": 0})
    return {
        each["request"]
        for each in made
        if {key: each[key] for key in ("status", "grpcStatus") if key in each} not in good
    }


assert IMAGE == "policyd-emojivoto:0.1"  # the sample's manifests name it
