"""A real policyd beside a real API server, with the rights an install gives it and no others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policyd.install.names import ACKNOWLEDGED, POLICYD
from policyd.install.rbac import roles
from tests.api import objects
from tests.api.rig import ApiServer, RigError, free_ports

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
STOP_SECONDS = 20.0

Json = dict[str, Any]


def install(api: ApiServer, namespace: str) -> Path:
    """Make the account of policyd and what install makes for it; returns a kubeconfig of that account."""
    with contextlib.suppress(RigError):
        objects.create_account(api, namespace, POLICYD)
    api.apply(*roles(POLICYD, namespace))
    shared = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ACKNOWLEDGED}}
    with contextlib.suppress(RigError):
        api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", shared)
    token = objects.account_token(api, namespace, POLICYD)
    return api.write_kubeconfig(f"{namespace}-policyd", token)


def real_crds(api: ApiServer) -> None:
    """Apply our CRDs as they are shipped: their columns and schemas are part of what is tried."""
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


@dataclass
class Policyd:
    """One replica. Without `more` nobody gives it a certificate: it serves no proxy, and writes statuses."""

    folder: Path
    kubeconfig: Path
    roots: Path
    namespace: str
    name: str = "policyd-0"
    more: Json = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.metrics_port, nobody = free_ports(3)
        (self.folder / "token").write_text("token")
        settings = {
            "trustDomain": "cluster.local",
            "namespace": self.namespace,
            "listen": f"127.0.0.1:{self.port}",
            "metricsListen": f"127.0.0.1:{self.metrics_port}",
            "cluster": {"kubeconfig": str(self.kubeconfig)},
            "identity": {"address": f"127.0.0.1:{nobody}"},
            "tokenFile": str(self.folder / "token"),
            "rootsFile": str(self.roots),
            "stateDir": str(self.folder / "state"),
            **self.more,
        }
        (self.folder / "policyd.json").write_text(json.dumps(settings))

    def start(self) -> None:
        """Start it; it is ready when its metrics are."""
        command = [sys.executable, "-m", "policyd.distribute.main"]
        environment = {**os.environ, "POD_NAME": self.name}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.folder / "policyd.json")],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def wait_serving(self) -> None:
        """Wait until it accepts streams."""
        self.wait(lambda: "policyd_ready" in self.log, START_SECONDS)

    def wait(self, true: Any, seconds: float = 40.0) -> None:
        """Wait for something; raises AssertionError with the log."""
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process is None or self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log[-6000:]
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def metric(self, name: str) -> float:
        """Read one line of the metrics, labels included; 0 where it isn't there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
                found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        except OSError:
            return 0.0
        return float(found[1]) if found else 0.0

    @property
    def leads(self) -> bool:
        return self.metric("policyd_leader") == 1.0

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def stop(self) -> None:
        """End it as a kubelet would."""
        if self.process is not None:
            process, self.process = self.process, None
            process.send_signal(signal.SIGCONT)
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0, self.log

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            process, self.process = self.process, None
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(api: ApiServer, folder: Path, namespace: str, **more: Any) -> Iterator[Policyd]:
    """Run one replica without a certificate until the block ends."""
    made = Policyd(folder, install(api, namespace), api.ca, namespace, more=more)
    made.start()
    try:
        yield made
    finally:
        made.stop()
