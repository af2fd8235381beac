"""One real node: what a kubelet runs, and the controllers that a cluster has.

To be used in the namespaces that `python -m tests.cluster` makes. All pods are on one bridge; nothing leads
out of it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.api.rig import ADMIN_TOKEN, ApiServer, RigError
from tests.cluster import needs, place
from tests.cluster.images import pause_archive
from tests.cluster.resolver import Resolver, service_addresses

NODE_SECONDS = 120.0
IMPORT_SECONDS = 120.0
END_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LAST_FLAG_COUNTS = (
    "--endpoint-reconciler-type=lease",
    f"--service-cluster-ip-range={place.SERVICES}",
    "--kubelet-preferred-address-types=InternalIP",
    "--enable-admission-plugins=NodeRestriction",
)


class Node(ApiServer):
    """An API server with everything that makes it a cluster of one node."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, address=place.NODE_ADDRESS, also=(place.API_SERVICE,))
        kubelet, key = self.clients.issue("kube-apiserver", groups=("system:masters",))
        self._more = (
            *_LAST_FLAG_COUNTS,
            *(f"--kubelet-client-certificate={kubelet}", f"--kubelet-client-key={key}"),
        )
        self.socket = folder / "containerd.sock"
        """Containerd's."""
        self._resolver: Resolver | None = None

    def start(self) -> None:
        """Start what isn't running and wait until the node is ready; raises RigError."""
        super().start()
        if "kubelet" in self._processes:
            return
        self._start_containerd()
        self.load(pause_archive(self.folder))
        self._start_controllers()
        self._start_kubelet()
        self._resolver = Resolver(place.NODE_ADDRESS, service_addresses(self._look_up))
        self._ready()

    def stop(self) -> None:
        """End all that was started, containers before what would start them again."""
        if self._resolver is not None:
            self._resolver.stop()
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"):
            self._end(name)
        if "containerd" in self._processes:
            self._end_containers()
        self._end("containerd")
        super().stop()

    def load(self, archive: Path) -> None:
        """Import an image archive, as `ctr image import` on the node does; raises RuntimeError."""
        self.ctr("image", "import", str(archive), timeout=IMPORT_SECONDS)

    def ctr(self, *words: str, timeout: float = 60.0) -> str:
        """Run containerd's own client on the kubelet's containers; raises RuntimeError."""
        return needs.run("ctr", "--address", self.socket, "-n", "k8s.io", *words, timeout=timeout)

    def wait(self, what: str, done: Callable[[], object], seconds: float = NODE_SECONDS) -> Any:
        """Wait until `done` says something true, and return that; raises RigError."""
        deadline = time.monotonic() + seconds
        fault = ""
        while time.monotonic() < deadline:
            try:
                found = done()
            except (RigError, LookupError, OSError, RuntimeError) as error:
                found, fault = None, f": {error}"
            if found:
                return found
            time.sleep(_POLL_SECONDS)
        raise RigError(f"{what}: not within {seconds:.0f} s{fault}")

    def _look_up(self, method: str, path: str) -> Any:
        status, answer = self._ask(method, path, None, {})
        if status == 404:
            raise LookupError(path)
        if status != 200:
            raise RigError(f"{path}: {status}")
        return json.loads(answer)

    def _start_containerd(self) -> None:
        (self.folder / "cni").mkdir(exist_ok=True)
        (self.folder / "cni" / "10-node.conflist").write_text(json.dumps(place.network(self.folder)))
        config = self.folder / "containerd.toml"
        config.write_text(place.containerd(self.folder, needs.plugins()))
        self._spawn("containerd", "--config", str(config), program="containerd")
        self.wait("containerd answers", lambda: self.ctr("version"))

    def _start_controllers(self) -> None:
        config = f"--kubeconfig={self.kubeconfig}"
        tokens = self._token_keys[0]
        self._spawn(
            "kube-controller-manager",
            *(config, "--leader-elect=false", "--bind-address=127.0.0.1", f"--root-ca-file={self.ca}"),
            *(f"--service-account-private-key-file={tokens}", "--use-service-account-credentials=true"),
            *("--allocate-node-cidrs=true", f"--cluster-cidr={place.PODS}"),
        )
        self._spawn("kube-scheduler", config, "--leader-elect=false", "--bind-address=127.0.0.1")
        self._spawn(
            "kube-proxy",
            *(config, "--proxy-mode=nftables", f"--hostname-override={place.NODE}"),
            *(f"--cluster-cidr={place.PODS}", f"--bind-address={place.NODE_ADDRESS}"),
            # Of the whole machine, so not to be touched.
            *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"),
            "--conntrack-tcp-timeout-close-wait=0",
        )

    def _start_kubelet(self) -> None:
        config = self.folder / "kubelet.yaml"
        config.write_text(yaml.safe_dump(place.kubelet(self.folder, self.clients.certificate)))
        self._spawn(
            "kubelet",
            *(f"--config={config}", f"--kubeconfig={self._node_kubeconfig()}"),
            *(f"--hostname-override={place.NODE}", f"--node-ip={place.NODE_ADDRESS}"),
            *(f"--root-dir={self.folder / 'kubelet'}", f"--cert-dir={self.folder / 'kubelet-pki'}"),
        )

    def _node_kubeconfig(self) -> Path:
        """Write the kubeconfig of a node: it may do what nodes may, and no more."""
        user = f"system:node:{place.NODE}"
        certificate, key = self.clients.issue(user, groups=("system:nodes",))
        path = self.write_kubeconfig(user, "none")
        content = yaml.safe_load(path.read_text())
        content["users"][0]["user"] = {"client-certificate": str(certificate), "client-key": str(key)}
        path.write_text(yaml.safe_dump(content))
        return path

    def _ready(self) -> None:
        def done() -> object:
            node = self._look_up("GET", f"/api/v1/nodes/{place.NODE}")
            conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
            return conditions.get("Ready") == "True" and node["spec"].get("podCIDR") == place.NODE_PODS

        try:
            self.wait("the node is ready", done)
        except RigError as error:
            raise RigError(f"{error}\n{self.tail('kubelet')}\n{self.tail('containerd')}") from error

    def _end_containers(self) -> None:
        tasks = self.ctr("task", "ls", "-q").split()
        for task in tasks:
            subprocess.run(
                ["ctr", "--address", self.socket, "-n", "k8s.io", "task", "kill", "-s", "KILL", task],
                env=needs.environment(),
                capture_output=True,
                check=False,
            )
        self.wait(
            "containers have ended",
            lambda: "RUNNING" not in self.ctr("task", "ls"),
            END_SECONDS,
        )


__all__ = ["ADMIN_TOKEN", "Node", "RigError"]
