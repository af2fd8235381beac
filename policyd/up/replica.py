"""One pod: its proxy, its containers, its token, and whether it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyd.resources.workload import Container
from policyd.up.addresses import PodAddresses
from policyd.up.environment import Listener, command_line, container_environment, service_variables
from policyd.up.plan import Template, runnable, working_folder
from policyd.up.pod_object import NODE, pod_manifest
from policyd.up.probes import ProbeTarget, readiness
from policyd.up.process import Child, Command
from policyd.up.programs import search_path
from policyd.up.screen import Screen, parse_record
from policyd.up.tokens import Holder, TokenIssuer, write_private

ADMIN_PORT = 4191
TOKEN_RENEW_SECONDS = 600.0
_READY_SECONDS = 0.05
_PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pods of a run share."""

    trust_domain: str
    namespace: str
    identity_address: str
    policy_address: str
    roots_file: Path
    audience: str
    node: str
    proxy: Path
    tokens: TokenIssuer
    account_uid: Callable[[str, str], str]
    """The uid of a service account (namespace, name)."""


class Replica:
    """A pod of a template. `start` begins everything and returns; `stop` ends it and removes its folder."""

    def __init__(
        self, name: str, template: Template, around: Surroundings, addresses: PodAddresses, folder: Path
    ) -> None:
        """`folder` is where the pod's own folder is made."""
        self.name = name
        self.template = template
        self.addresses = addresses
        self.uid = str(uuid.uuid4())
        self.ready = False
        self.listeners: tuple[Listener, ...] = ()
        self._around = around
        self._folder = folder / f"{name}-{self.uid}"
        self._folder.mkdir(mode=0o700)
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.containers, self.skipped = runnable(template)

    @property
    def namespace(self) -> str:
        return self.template.owner.namespace

    @property
    def proxy(self) -> Child:
        """The proxy's process; there is one from `start` on."""
        return self._children[0]

    @property
    def state(self) -> Path:
        """Where the proxy keeps certificate and table."""
        return self._folder / "state"

    def manifest(self) -> dict[str, Any]:
        """Return the pod as policyd and identity are to see it now."""
        return pod_manifest(self.template, self.name, self.uid, self.addresses, self.ready)

    def start(self, listeners: tuple[Listener, ...], screen: Screen, on_record: Callable[..., None]) -> None:
        """Write settings and token, start the proxy and the containers."""
        self.listeners = listeners
        self._write_token()
        settings = self._folder / "proxy.json"
        write_private(settings, json.dumps(self._settings(listeners), indent=1))
        command = Command(
            [str(self._around.proxy), "--config", str(settings)], _proxy_environment(), self._folder
        )
        proxy = Child(
            command, lambda line: self._proxy_line(line, screen, on_record), self._ended(screen, "proxy")
        )
        self._children = [proxy, *(self._container(each, listeners, screen) for each in self.containers)]
        for child in self._children:
            child.start()
        self._tasks.append(asyncio.create_task(self._renew_token()))

    async def follow_readiness(self, on_change: Callable[[Replica], None]) -> None:
        """Ask again and again whether the pod is ready, and tell when that changes, until cancelled."""
        targets = readiness(self.containers, self.addresses.proxy)
        while True:
            ready = await self._is_ready(targets)
            if ready != self.ready:
                self.ready = ready
                on_change(self)
            await asyncio.sleep(_PROBE_SECONDS if ready else _READY_SECONDS)

    async def _is_ready(self, targets: list[ProbeTarget]) -> bool:
        admin = ProbeTarget(ADMIN_PORT, b"GET /ready HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
        if not await admin.passes(self.addresses.application, self.addresses.application):
            return False
        own, node = self.addresses, self._around.node
        probes = [each.passes(node, own.proxy) for each in targets]
        # A proxy accepts before it knows whether anybody is behind it.
        probes += [each.passes(own.application, own.application) for each in targets if each.request is None]
        return all(await asyncio.gather(*probes))

    async def stop(self) -> None:
        """End all processes of the pod, the containers before the proxy."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await asyncio.gather(*(child.stop() for child in self._children[1:]))
        for child in self._children[:1]:
            await child.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _container(self, container: Container, listeners: tuple[Listener, ...], screen: Screen) -> Child:
        host = self.addresses.application
        services = service_variables(listeners, self.namespace, host)
        variables = container_environment(
            container, services, self._fields(), {**os.environ, "PATH": search_path()}
        )
        variables.setdefault("POD_IP", host)
        command = Command(
            command_line(container, variables), variables, working_folder(container, self.template.folder)
        )
        return Child(
            command, lambda line: screen.application(self.name, line), self._ended(screen, container.name)
        )

    def _ended(self, screen: Screen, what: str) -> Callable[[str], None]:
        return lambda why: screen.problem(f"{self.name}: {what} {why}")

    def _proxy_line(self, line: str, screen: Screen, on_record: Callable[..., None]) -> None:
        record = parse_record(line)
        if record is not None and record.get("event") in {"denial", "would_deny"}:
            on_record(self, record)
        else:
            screen.service(f"{self.name}/proxy", line)

    def _fields(self) -> Mapping[str, str]:
        labels = {f"metadata.labels['{key}']": value for key, value in self.template.labels.items()}
        return {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": self.uid,
            "spec.nodeName": NODE,
            "spec.serviceAccountName": self.template.account,
            "status.hostIP": self._around.node,
            "status.podIP": self.addresses.application,
            "status.podIPs": self.addresses.application,
            **labels,
        }

    def _settings(self, listeners: tuple[Listener, ...]) -> dict[str, Any]:
        proxy, application = self.addresses.proxy, self.addresses.application
        around = self._around
        ports = sorted(
            {
                port.container_port
                for container in self.template.spec.containers
                for port in container.ports
                if port.protocol == "TCP"
            }
        )
        self.state.mkdir(mode=0o700, exist_ok=True)
        return {
            "trustDomain": around.trust_domain,
            "namespace": self.namespace,
            "serviceAccount": self.template.account,
            "podName": self.name,
            "identity": {"address": around.identity_address, "serviceAccount": "identity"},
            "policy": {"address": around.policy_address, "serviceAccount": "policyd"},
            "controlPlaneNamespace": around.namespace,
            "tokenFile": str(self._folder / "token"),
            "rootsFile": str(around.roots_file),
            "stateDir": str(self.state),
            "inbound": [
                {"listen": f"{proxy}:{port}", "application": f"{application}:{port}"} for port in ports
            ],
            "outbound": [
                {"listen": f"{application}:{each.listen}", "service": each.target} for each in listeners
            ],
            "sourceAddress": proxy,
            "admin": f"{application}:{ADMIN_PORT}",
            "workers": 1,
        }

    def _write_token(self) -> None:
        account = self.template.account
        uid = self._around.account_uid(self.namespace, account)
        holder = Holder(self.namespace, account, uid, self.name, self.uid)
        write_private(self._folder / "token", self._around.tokens.mint(holder, self._around.audience))

    async def _renew_token(self) -> None:
        while True:
            await asyncio.sleep(TOKEN_RENEW_SECONDS)
            self._write_token()


def _proxy_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "RUST_LOG", "RUST_BACKTRACE") if name in os.environ}
