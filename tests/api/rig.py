"""A real API server on loopback: etcd and kube-apiserver as processes of a test, in a folder that it gives.

No controllers run: what they would make (the ServiceAccount `default` of a namespace, say) a test makes
itself, with `objects`. No root is needed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.api.certificates import Authority, signing_key
from tests.cluster import binaries

ISSUER = "https://kubernetes.default.svc"
"""Of ServiceAccount tokens; also their audience where none is asked for."""
ADMIN_TOKEN = "admin-of-the-tests"
START_SECONDS = 60.0
STOP_SECONDS = 5.0
KUBECTL_SECONDS = 60.0
_POLL_SECONDS = 0.05
_TAIL_LINES = 40


class RigError(Exception):
    """The API server or kubectl didn't do what a test needs; the message ends with what it logged."""


LOOPBACK = "127.0.0.1"


class ApiServer:
    """etcd and an API server. `more` are flags of kube-apiserver on top of what `_flags` says.

    `address` is where it listens; its certificate is for that, loopback and `also`.
    """

    def __init__(
        self, folder: Path, more: Sequence[str] = (), address: str = LOOPBACK, also: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.programs = binaries.folder()
        self.address = address
        self.port, self._etcd_port, self._etcd_peer_port = free_ports(3)
        self.url = f"https://{address}:{self.port}"
        ca = Authority(folder, "ca")
        self.ca = ca.certificate
        """The CA of the API server's certificate."""
        self.clients = Authority(folder, "clients")
        """Whose certificates are users: `clients.issue(user, groups=…)`."""
        self.front = Authority(folder, "front")
        """Whose certificate named `front-proxy` says that the API server calls an API behind it."""
        self._serving = ca.issue("apiserver", serving=tuple({LOOPBACK, address, *also}))
        self._token_keys = signing_key(folder, "tokens")
        self._more = tuple(more)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "admins.csv").write_text(f'{ADMIN_TOKEN},admin,1,"system:masters"\n')
        self.kubeconfig = self.write_kubeconfig("admin", ADMIN_TOKEN)

    def start(self) -> None:
        """Start what isn't running and wait until it is ready; raises RigError."""
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._etcd_peer_port))
        if "etcd" not in self._processes:
            self._spawn(
                "etcd",
                *(f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn"),
                *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
                *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
                f"--initial-cluster=default={peer}",
            )
        if "kube-apiserver" not in self._processes:
            self._spawn("kube-apiserver", f"--etcd-servers={client}", *self._flags(), *self._more)
        self._wait_ready()

    def _flags(self) -> list[str]:
        front, front_key = self.front.issue("front-proxy")
        return [
            # Without an explicit address it doesn't start where there is no default route.
            *(f"--bind-address={self.address}", f"--advertise-address={self.address}"),
            f"--secure-port={self.port}",
            *(f"--tls-cert-file={self._serving[0]}", f"--tls-private-key-file={self._serving[1]}"),
            *(f"--cert-dir={self.folder}", "--service-cluster-ip-range=10.96.0.0/16"),
            *("--authorization-mode=Node,RBAC", f"--token-auth-file={self.folder / 'admins.csv'}"),
            f"--client-ca-file={self.clients.certificate}",
            *(f"--service-account-issuer={ISSUER}", f"--api-audiences={ISSUER}"),
            f"--service-account-signing-key-file={self._token_keys[0]}",
            f"--service-account-key-file={self._token_keys[1]}",
            # Aggregation: by the addresses of a Service's endpoints, since nothing routes its cluster IP.
            *("--enable-aggregator-routing=true", "--requestheader-allowed-names=front-proxy"),
            f"--requestheader-client-ca-file={self.front.certificate}",
            *(f"--proxy-client-cert-file={front}", f"--proxy-client-key-file={front_key}"),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            *(
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-username-headers=X-Remote-User",
            ),
            # Off by default before 1.37.
            "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
            "--feature-gates=ClusterTrustBundle=true",
            *("--allow-privileged=true", "--endpoint-reconciler-type=none"),
        ]

    def stop(self) -> None:
        """End all that was started."""
        for name in ("kube-apiserver", "etcd"):
            self._end(name)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Take the API server away, at once, and back again with the state and the port that it had."""
        self._end("kube-apiserver", at_once=True)
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Let the API server keep its connections, and answer nothing."""
        pid = self._processes["kube-apiserver"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def write_kubeconfig(self, user: str, token: str, server: str | None = None) -> Path:
        """Write a kubeconfig for a token; `server` where something stands between."""
        cluster = {"server": server or self.url, "certificate-authority": str(self.ca)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "current-context": "tests",
        }
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return path

    def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """Run kubectl and return what it printed; raises RigError."""
        config = kubeconfig or self.kubeconfig
        command: list[str | Path] = [self.programs / "kubectl", "--kubeconfig", config, *arguments]
        environment = {**os.environ, "HOME": str(self.folder)}
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise RigError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: dict[str, Any] | str | Path) -> None:
        """Apply manifests (objects, YAML, or files) as kubectl does, server-side; raises RigError."""
        for found in manifests:
            if isinstance(found, Path):
                self.kubectl("apply", "--server-side", "-f", str(found))
            else:
                text = found if isinstance(found, str) else json.dumps(found)
                self.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Ask the API server something plain, as admin; raises RigError unless it says 2xx."""
        status, answer = self._ask(method, path, body, headers)
        if not 200 <= status < 300:
            raise RigError(f"{method} {path}: {status} {answer.decode(errors='replace')}")
        return json.loads(answer)

    def metrics(self) -> str:
        """Return what the API server counts, in Prometheus' text format."""
        return self._ask("GET", "/metrics", None, {})[1].decode()

    def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection(
            self.address, self.port, timeout=KUBECTL_SECONDS, context=context
        )
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body).encode()
            head = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json", **headers}
            connection.request(method, path, sent, head)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _spawn(self, name: str, *arguments: str, program: str = "") -> None:
        """Start a program of Kubernetes, or another one, under a name that its log has."""
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [program or self.programs / name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RigError(f"{name} ended with {process.returncode}:\n{self.tail(name)}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._ask("GET", "/readyz", None, {})[0] == 200:
                    return
            time.sleep(_POLL_SECONDS)
        raise RigError(
            f"the API server isn't ready after {START_SECONDS:.0f} s:\n{self.tail('kube-apiserver')}"
        )

    def _end(self, name: str, *, at_once: bool = False) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        if at_once:
            process.kill()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the last lines that a process logged."""
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-_TAIL_LINES:])


def free_ports(count: int) -> list[int]:
    """Find ports of loopback that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
