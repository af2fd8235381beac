"""Pods in network namespaces whose applications don't know of their proxies: everything is redirected.

The proxies run as a user of their own, as in a pod; applications are sockets of the tests inside the
namespace.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from policyd.model.names import AUDIENCE
from policyd.up import control_plane, programs
from policyd.up.control_plane import NAMESPACE, ControlPlane, account_uid
from policyd.up.process import Child, Command
from policyd.up.programs import find_proxy
from policyd.up.run_folder import RunFolder
from policyd.up.screen import Screen, parse_record
from policyd.up.tokens import Holder
from tests.listening import accept_no_more

from .mesh import NOTHING, WAIT_SECONDS, Answer, read_answer
from .netns import NODE_V4, NODE_V6, Link, Namespace

UID = 2102
INBOUND, OUTBOUND, ADMIN = 4143, 4140, 4191
TRUST_DOMAIN = "netns.test"
NODE = "node"
START_SECONDS = 30.0


class Addresses:
    """What the control plane asks of its range of addresses."""

    network = "10.77.0.0/24"
    node = NODE_V4
    control_plane = NODE_V4


@dataclass
class Pod:
    """One pod: its namespace, its addresses, its proxy's process and what that wrote."""

    name: str
    namespace: Namespace
    v4: str
    v6: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of its proxy, beside those that all have."""
    proxy: Child | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    spoke: asyncio.Event = field(default_factory=asyncio.Event)

    def manifest(self, containers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The pod as the API server shows it."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": "shop",
                "uid": self.uid,
                "labels": {"app": self.name},
            },
            "spec": {
                "serviceAccountName": self.name,
                "nodeName": NODE,
                "containers": [*map(dict, containers), {"name": "policyd-proxy", "image": "proxy"}],
            },
            "status": {
                "phase": "Running",
                "podIP": self.v4,
                "podIPs": [{"ip": self.v4}, {"ip": self.v6}],
            },
        }

    def on_line(self, line: str) -> None:
        record = parse_record(line)
        if record is not None:
            self.records.append(record)
            self.spoke.set()

    async def record(self, **fields: object) -> dict[str, Any]:
        """The newest record with these fields, as soon as there is one."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                for record in reversed(self.records):
                    if all(record.get(name) == value for name, value in fields.items()):
                        return record
                self.spoke.clear()
                await self.spoke.wait()

    def redirect(self, *words: str) -> str:
        """Run `policyd-proxy redirect` inside, as an init container does."""
        done = self.namespace.run(str(find_proxy()), "redirect", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def metric(self, name: str, labels: str = "") -> float:
        """One of the proxy's metrics, read inside the pod, where the admin port listens."""
        text = (await self.ask("127.0.0.1", ADMIN, "/metrics")).body.decode()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(name) and labels in line
        )

    async def ask(self, host: str, port: int, path: str) -> Answer:
        """A request of the pod's application."""
        return await ask(self.namespace, host, port, path)


class Mesh:
    """A control plane on the node, and pods."""

    def __init__(self, link: Link, manifests: Path) -> None:
        self.link = link
        self.manifests = manifests
        self.pods: dict[str, Pod] = {}
        self._run = RunFolder()
        # Readable for the proxies' user, down to what is its own.
        for folder in (self._run.path, self._run.path.parent, self._run.path.parent.parent):
            folder.chmod(0o711)
        self._program = Path(shutil.copy(find_proxy(), self._run.path))
        addresses: Any = Addresses()
        self.control_plane = ControlPlane(self._run, addresses, TRUST_DOMAIN, manifests)

    async def start(self, screen: Screen) -> None:
        """Start identity and policyd on the node."""
        with pytest.MonkeyPatch.context() as patch:
            enter = self.link.node.enter
            patch.setattr(
                control_plane, "python_program", lambda module: [*enter, *programs.python_program(module)]
            )
            await self.control_plane.start(screen, lambda _name, _record: None)
        self.control_plane.roots_file.chmod(0o644)
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE},
            "spec": {"podCIDR": "10.77.0.0/24", "podCIDRs": ["10.77.0.0/24", f"{NODE_V6[:-1]}/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.31.0.1"}]},
        }
        (self._run.pods / "kubelet-node.json").write_text(json.dumps(node))

    def add(self, name: str, last: int, *containers: Mapping[str, Any]) -> Pod:
        """Make a pod whose addresses end so; nothing is redirected yet, and no proxy runs."""
        v4, v6 = f"10.77.0.{last}", f"fd77::{last}"
        pod = Pod(name, self.link.add(name, v4, v6), v4, v6)
        self.pods[name] = pod
        (self._run.pods / f"shop_{name}.json").write_text(json.dumps(pod.manifest(containers)))
        return pod

    async def start_proxy(self, pod: Pod) -> None:
        """Start a pod's proxy as its user; return when it enforces."""
        folder = self._run.replicas / pod.name
        (folder / "state").mkdir(parents=True, mode=0o700)
        folder.parent.chmod(0o711)
        holder = Holder("shop", pod.name, account_uid("shop", pod.name), pod.name, pod.uid)
        (folder / "token").write_text(self.control_plane.tokens.mint(holder, AUDIENCE))
        (folder / "proxy.json").write_text(json.dumps(self._settings(pod, folder)))
        for path in (folder, folder / "state", folder / "token", folder / "proxy.json"):
            os.chown(path, UID, UID)
        become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
        words = [*pod.namespace.enter, *become, str(self._program), "--config", str(folder / "proxy.json")]
        environment = {"POLICYD_LOG": "warn,dataplane=debug"}
        pod.proxy = Child(Command(words, environment, folder), pod.on_line, pod.on_line)
        pod.proxy.start()
        await pod.record(message="ready")

    def _settings(self, pod: Pod, folder: Path) -> dict[str, Any]:
        return {
            "trustDomain": TRUST_DOMAIN,
            "namespace": "shop",
            "serviceAccount": pod.name,
            "podName": pod.name,
            "identity": {"address": self.control_plane.identity_address, "serviceAccount": "identity"},
            "policy": {"address": self.control_plane.policy_address, "serviceAccount": "policyd"},
            "controlPlaneNamespace": NAMESPACE,
            "tokenFile": str(folder / "token"),
            "rootsFile": str(self.control_plane.roots_file),
            "stateDir": str(folder / "state"),
            "transparent": {"inbound": INBOUND, "outbound": OUTBOUND},
            "inbound": [],
            "outbound": [],
            "admin": f"127.0.0.1:{ADMIN}",
            **pod.settings,
        }

    async def stop(self) -> None:
        """End all processes, and leave no file."""
        for pod in self.pods.values():
            if pod.proxy is not None:
                await pod.proxy.stop()
        await self.control_plane.stop()
        self._run.remove()


class Application:
    """An HTTP application that knows nothing of proxies: it answers with what it was asked, and keeps it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """(path, the address that it was asked from)."""
        self.heads: dict[str, str] = {}
        """The last head, by path."""
        self._servers: list[asyncio.Server] = []

    async def listen(
        self, namespace: Namespace, address: str, port: int, context: ssl.SSLContext | None = None
    ) -> None:
        made = namespace.listen(address, port)
        self._servers.append(await asyncio.start_server(self._serve, sock=made, ssl=context))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.heads[path] = head
            self.asked.append((path, writer.get_extra_info("peername")[0]))
            body = path.encode()
            lines = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(lines.encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        for server in self._servers:
            await accept_no_more(server.sockets)
            server.close()
            await server.wait_closed()


async def connect(
    namespace: Namespace, host: str, port: int, source: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect from inside a namespace. Raises OSError."""
    made = namespace.socket(host)
    try:
        if source is not None:
            made.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(made, (host, port))
    except BaseException:
        made.close()
        raise
    return await asyncio.open_connection(sock=made)


async def said(namespace: Namespace, host: str, port: int, sent: bytes, source: str | None = None) -> bytes:
    """Everything that comes back until the other end closes. Raises ConnectionRefusedError."""
    received = b""
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await connect(namespace, host, port, source)
        try:
            writer.write(sent)
            await writer.drain()
            while chunk := await reader.read(65536):
                received += chunk
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
    return received


async def ask(namespace: Namespace, host: str, port: int, path: str, source: str | None = None) -> Answer:
    """One plain request from inside a namespace; NOTHING where it ended without an answer."""
    head = f"GET {path} HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n"
    received = await said(namespace, host, port, head.encode(), source)
    return read_answer(received) if received else NOTHING
