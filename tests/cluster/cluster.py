"""A cluster as its users see it: kubectl, policyctl, pods, and what their proxies log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.api.rig import RigError
from tests.cluster import binaries, needs
from tests.cluster.agents import Agent
from tests.cluster.node import Node

CONTROL_PLANE = "policyd"
COMPONENTS = ("identity", "policyd", "injector")
COMMAND_SECONDS = 120.0
READY_SECONDS = 120.0
SIDECARS = ("policyd-redirect", "policyd-validate", "policyd-proxy")

Object = dict[str, Any]


class Cluster:
    """What a person with kubectl and policyctl does, and sees."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._agents: dict[tuple[str, str], Agent] = {}

    def policyctl(self, *words: str, code: int = 0) -> str:
        """Run policyctl; returns its stdout. Raises RigError for another exit code."""
        script = "import sys; sys.argv[0] = 'policyctl'; from policyd.cli.main import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env={
                **os.environ,
                # The cluster's own kubectl before the machine's, which may be of any age.
                "PATH": f"{binaries.folder()}:{os.environ['PATH']}",
                "KUBECONFIG": str(self.node.kubeconfig),
                "HOME": str(self.node.folder),
            },
            cwd=needs.ROOT,
            check=False,
        )
        if done.returncode != code:
            raise RigError(
                f"policyctl {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl; returns its stdout. Raises RigError."""
        return self.node.kubectl(*words, stdin=stdin)

    def apply(self, *objects: Object | Path) -> float:
        """Apply objects or files; returns when the API server had answered, in seconds since 1970."""
        files = [each for each in objects if isinstance(each, Path)]
        for file in files:
            self.kubectl("apply", "-f", str(file))
        written = [each for each in objects if not isinstance(each, Path)]
        if written:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(_list(written)))
        return time.time()

    def delete(self, *objects: Object) -> float:
        """Delete objects; returns when the API server had answered, in seconds since 1970."""
        self.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=json.dumps(_list(objects)))
        return time.time()

    def get(self, *words: str) -> Any:
        """Return what `kubectl get … -o json` says."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def pods(self, namespace: str, app: str = "") -> list[Object]:
        """Return a namespace's pods, or those of one application; none that is ending."""
        selector = ["-l", f"app={app}"] if app else []
        found = self.get("pods", "-n", namespace, *selector)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def pod(self, namespace: str, app: str) -> Object:
        """Return an application's one pod."""
        found = self.pods(namespace, app)
        if len(found) != 1:
            raise RigError(f"{namespace}/{app}: {len(found)} pods; expected one")
        return found[0]

    def rolled_out(self, namespace: str, *deployments: str) -> None:
        """Wait until these Deployments, or all of a namespace, are as they should be; raises RigError."""
        names = deployments or [
            each["metadata"]["name"] for each in self.get("deployments", "-n", namespace)["items"]
        ]
        for name in names:
            try:
                self.kubectl(
                    *("rollout", "status", "-n", namespace, f"deployment/{name}"),
                    f"--timeout={READY_SECONDS:.0f}s",
                )
            except RigError as error:
                raise RigError(f"{error}\n{self.why(namespace)}") from error

    def why(self, namespace: str) -> str:
        """Return what a person would look at where pods don't become ready."""
        told = [self.kubectl("get", "pods", "-n", namespace, "-o", "wide")]
        told.append(self.kubectl("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"))
        for pod in self.get("pods", "-n", namespace)["items"]:
            for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
                told.append(f"{pod['metadata']['name']} {container['name']}:")
                told.append(self.logs(namespace, pod["metadata"]["name"], container["name"], "--tail=15"))
        return "\n".join(told)

    def logs(self, namespace: str, pod: str, container: str, *words: str) -> str:
        """Return what a container wrote; nothing where it never began."""
        try:
            return self.kubectl("logs", "-n", namespace, pod, "-c", container, *words)
        except RigError as error:
            return f"({error})"

    def records(self, namespace: str, app: str) -> list[Object]:
        """Return the decision records that the proxies of an application logged."""
        found = []
        for pod in self.pods(namespace, app):
            for line in self.logs(namespace, pod["metadata"]["name"], "policyd-proxy").splitlines():
                record = json.loads(line) if line.startswith("{") else {}
                if "verdict" in record:
                    found.append(record)
        return found

    def record(self, namespace: str, app: str, decision: str) -> Object:
        """Return the record of a decision, by its id; waits until it is written."""

        def find() -> list[Object]:
            return [each for each in self.records(namespace, app) if each["id"] == decision]

        found: list[Object] = self.node.wait(f"record {decision} of {namespace}/{app}", find, 10.0)
        return found[0]

    def agent(self, namespace: str, app: str) -> Agent:
        """Return the hands of an application's one pod; the same until the pod is another."""
        known = self._agents.get((namespace, app))
        if known is not None and known.alive:
            return known
        if known is not None:
            known.close()
        pod = self.pod(namespace, app)
        [status] = pod["status"]["containerStatuses"]
        container = status["containerID"].removeprefix("containerd://")
        agent = Agent(self.node, namespace, pod["metadata"]["name"], container)
        self._agents[namespace, app] = agent
        return agent

    def close(self) -> None:
        """End all agents."""
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()


def ready(pod: Object) -> bool:
    """Whether a pod says that it is ready."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True"


def _list(objects: Sequence[Object]) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
