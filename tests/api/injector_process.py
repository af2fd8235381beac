"""`policyd-injector` as a process beside a real API server, which calls it by URL."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.api import objects
from tests.api.rig import ApiServer, free_ports

START_SECONDS = 30.0
STOP_SECONDS = 15.0
LABEL = "policyd.dev/inject"
JUDGED = "policyd.test/judged"
"""A label of namespaces whose policies go through the webhook in these tests."""
RULES = (
    {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["list", "watch"]},
    {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
        "verbs": ["get", "list", "watch", "patch"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch"]},
)
"""What the process may do: no more than install grants it, but for names."""

Json = dict[str, Any]


class Injector:
    """One process, and its registration."""

    def __init__(self, api: ApiServer, name: str, more: Mapping[str, Any] | None = None) -> None:
        self.api = api
        self.name = name
        self.namespace = objects.create_namespace(api, name)
        self.port, self._metrics_port = free_ports(2)
        objects.create_account(api, name, "injector")
        objects.grant(api, name, "injector", *RULES)
        token = objects.account_token(api, name, "injector")
        kubeconfig = api.write_kubeconfig(f"{name}-injector", token)
        self._settings = api.folder / f"{name}.json"
        self._log = api.folder / f"{name}.log"
        settings = {
            "namespace": name,
            "listen": f"127.0.0.1:{self.port}",
            "metricsListen": f"127.0.0.1:{self._metrics_port}",
            "names": ["127.0.0.1"],
            "mutatingConfiguration": name,
            "validatingConfiguration": name,
            "kubeconfig": str(kubeconfig),
            "injection": {"image": "localhost/policyd-proxy:test", "pullPolicy": "Never"},
            **(more or {}),
        }
        self._settings.write_text(json.dumps(settings))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "policyd.admission.main", "--config", str(self._settings)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if readable else b""
        assert b"injector_ready" in line, self.log

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._metrics_port}/metrics"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def events(self) -> list[Json]:
        """What it said about reviews and itself."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def stop(self) -> None:
        """End it as a kubelet would."""
        if self._process is not None:
            self._process.terminate()
            assert self._ended() == 0, self.log

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def _ended(self) -> int:
        assert self._process is not None
        with self._process as process:  # closes its pipe
            code = process.wait(STOP_SECONDS)
        self._process = None
        return code

    def register(self) -> None:
        """Write both configurations, as install does, without a caBundle."""
        enrolled = {"matchLabels": {LABEL: "enabled"}}
        asking = {"matchExpressions": [{"key": LABEL, "operator": "NotIn", "values": ["enabled"]}]}
        asking["matchExpressions"].append({"key": "policyd.test/asking", "operator": "Exists"})
        pods = [_rule([""], ["pods"], ["CREATE"]), _rule([""], ["pods/ephemeralcontainers"], ["UPDATE"])]
        again = {"reinvocationPolicy": "IfNeeded"}
        webhooks = [
            self._webhook("enrolled", "/inject/enrolled", enrolled, pods, "Fail") | again,
            # The same once more: what the first injected, and the API server completed, must be left alone.
            self._webhook("again", "/inject/enrolled", enrolled, pods, "Fail") | again,
            self._webhook("asking", "/inject", asking, pods, "Ignore") | again,
        ]
        groups = ["policyd.dev", "policy.linkerd.io", "gateway.networking.k8s.io"]
        rules = [_rule(groups, ["*"], ["CREATE", "UPDATE"])]
        judged = self._webhook("validate", "/validate", {"matchLabels": {JUDGED: "yes"}}, rules, "Fail")
        for kind, hooks in (("Mutating", webhooks), ("Validating", [judged])):
            self.api.apply(
                {
                    "apiVersion": "admissionregistration.k8s.io/v1",
                    "kind": f"{kind}WebhookConfiguration",
                    "metadata": {"name": self.name},
                    "webhooks": hooks,
                }
            )

    def bundles(self) -> list[str]:
        """The caBundles that the API server has now."""
        found = []
        for kind in ("mutating", "validating"):
            path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{self.name}"
            hooks = self.api.request("GET", path)["webhooks"]
            found += [each["clientConfig"].get("caBundle", "") for each in hooks]
        return found

    def _webhook(self, name: str, path: str, selector: Json, rules: list[Json], failing: str) -> Json:
        return {
            "name": f"{name}.{self.name}.policyd.test",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}"},
            "namespaceSelector": selector,
            "rules": rules,
            "failurePolicy": failing,
            "sideEffects": "None",
            "timeoutSeconds": 5,
        }


def _rule(groups: list[str], resources: list[str], operations: list[str]) -> Json:
    return {"apiGroups": groups, "apiVersions": ["*"], "resources": resources, "operations": operations}


@contextlib.contextmanager
def running(api: ApiServer, more: Mapping[str, Any] | None = None) -> Iterator[Injector]:
    """Yield an injector that the API server calls."""
    injector = Injector(api, objects.unique("injector"), more)
    injector.register()
    injector.start()
    try:
        until(lambda: all(injector.bundles()))
        yield injector
    finally:
        injector.kill()
        for kind in ("mutating", "validating"):
            path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{injector.name}"
            api.request("DELETE", path)


def until(holds: Any, seconds: float = 30.0) -> None:
    """Wait until something holds; fail where it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it didn't come to hold"
        time.sleep(0.1)
