"""identity and policyd of a run: their settings, their root, their tokens."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from identity.material import create_root
from identity.spiffe_id import TrustDomain
from policyd.errors import SourceError
from policyd.model.names import AUDIENCE
from policyd.up.addresses import AddressRange
from policyd.up.pod_object import control_plane_pod, node_manifest
from policyd.up.process import Child, Command
from policyd.up.programs import python_program
from policyd.up.run_folder import RunFolder
from policyd.up.screen import Screen, parse_record
from policyd.up.tokens import Holder, TokenIssuer, write_private

NAMESPACE = "policyd"
IDENTITY_PORT = 9443
POLICY_PORT = 9444
START_SECONDS = 30.0
TOKEN_RENEW_SECONDS = 600.0


class ControlPlane:
    """Both processes and everything they are given."""

    def __init__(self, run: RunFolder, addresses: AddressRange, trust_domain: str, manifests: Path) -> None:
        self._run = run
        self._addresses = addresses
        self._trust_domain = trust_domain
        self._manifests = manifests
        self._uid = str(uuid.uuid4())
        self._children: dict[str, Child] = {}
        self._renewal: asyncio.Task[None] | None = None
        self.tokens = TokenIssuer()
        self.identity_address = f"{addresses.control_plane}:{IDENTITY_PORT}"
        self.policy_address = f"{addresses.control_plane}:{POLICY_PORT}"
        self.status_socket = run.path / "policyd.sock"
        self.roots_file = run.path / "roots.pem"

    async def start(self, screen: Screen, on_record: Callable[[str, dict[str, object]], None]) -> None:
        """Start identity, then policyd; return when both say that they are ready. Raises SourceError."""
        create_root(self._run.root, TrustDomain(self._trust_domain))
        self.roots_file.write_bytes((self._run.root / "root.crt").read_bytes())
        self._write_objects()
        self._write_token()
        write_private(self._run.path / "jwks.json", self.tokens.jwks())
        for name, module, settings in (
            ("identity", "identity.main", self._identity_settings()),
            ("policyd", "policyd.distribute.main", self._policyd_settings()),
        ):
            await self._start(name, module, settings, screen, on_record)
        self._renewal = asyncio.create_task(self._renew_token())

    async def stop(self) -> None:
        """End both."""
        if self._renewal is not None:
            self._renewal.cancel()
        await asyncio.gather(*(child.stop() for child in self._children.values()))

    def child(self, name: str) -> Child:
        """Return the process of `identity` or `policyd`. Raises KeyError before `start`."""
        return self._children[name]

    async def _start(
        self,
        name: str,
        module: str,
        settings: dict[str, object],
        screen: Screen,
        on_record: Callable[[str, dict[str, object]], None],
    ) -> None:
        file = self._run.path / f"{name}.json"
        write_private(file, json.dumps(settings, indent=1))
        watch = _Startup(name, screen, on_record)
        words = [*python_program(module), "--config", str(file)]
        child = Child(Command(words, _environment(), self._run.path), watch.on_line, watch.on_exit)
        self._children[name] = child
        child.start()
        await watch.wait()

    def _identity_settings(self) -> dict[str, object]:
        return {
            "trustDomain": self._trust_domain,
            "controlPlaneNamespace": NAMESPACE,
            "listen": self.identity_address,
            "issuerFolder": str(self._run.root),
            "podsFolder": str(self._run.pods),
            "journal": str(self._run.state("identity") / "journal"),
            "tokens": {
                "issuer": self.tokens.issuer,
                "audience": AUDIENCE,
                "jwksFile": str(self._run.path / "jwks.json"),
            },
        }

    def _policyd_settings(self) -> dict[str, object]:
        return {
            "trustDomain": self._trust_domain,
            "namespace": NAMESPACE,
            "listen": self.policy_address,
            "folders": [str(self._manifests)],
            "podsFolder": str(self._run.pods),
            "identity": {"address": self.identity_address},
            "tokenFile": str(self._run.path / "policyd.token"),
            "rootsFile": str(self.roots_file),
            "stateDir": str(self._run.state("policyd")),
            "statusSocket": str(self.status_socket),
            "extraClusterNetworks": [self._addresses.network],
        }

    def _write_objects(self) -> None:
        node = node_manifest(self._addresses.node)
        own = control_plane_pod(NAMESPACE, "policyd", self._uid)
        write_private(self._run.pods / "node.json", json.dumps(node))
        write_private(self._run.pods / f"{NAMESPACE}_policyd-0.json", json.dumps(own))

    def _write_token(self) -> None:
        holder = Holder(NAMESPACE, "policyd", account_uid(NAMESPACE, "policyd"), "policyd-0", self._uid)
        write_private(self._run.path / "policyd.token", self.tokens.mint(holder, AUDIENCE))

    async def _renew_token(self) -> None:
        while True:
            await asyncio.sleep(TOKEN_RENEW_SECONDS)
            self._write_token()


class _Startup:
    """Watches one process: whether it says that it is ready, ends before that, or says nothing in time."""

    def __init__(
        self, name: str, screen: Screen, on_record: Callable[[str, dict[str, object]], None]
    ) -> None:
        self._name = name
        self._screen = screen
        self._on_record = on_record
        self._settled = asyncio.Event()
        self._ready = False
        self._last = "nothing"

    def on_line(self, line: str) -> None:
        """Take a line of the process."""
        record = parse_record(line)
        self._last = line
        if record is not None:
            self._on_record(self._name, record)
            if record.get("event") == f"{self._name}_ready":
                self._ready = True
                self._settled.set()
        self._screen.service(self._name, line)

    def on_exit(self, why: str) -> None:
        """Take its unexpected end."""
        self._settled.set()
        self._screen.problem(f"{self._name} {why}")

    async def wait(self) -> None:
        """Wait until it is ready. Raises SourceError where it won't be."""
        try:
            await asyncio.wait_for(self._settled.wait(), START_SECONDS)
        except TimeoutError:
            late = f"{self._name}: not ready after {START_SECONDS:.0f} s; it last said: {self._last}"
            raise SourceError(late) from None
        if not self._ready:
            raise SourceError(f"{self._name} did not start; it last said: {self._last}")


def account_uid(namespace: str, name: str) -> str:
    """Return a uid for a service account, the same for the whole run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{namespace}/{name}"))


def _environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    return {"PYTHONUNBUFFERED": "1"} | {name: os.environ[name] for name in kept if name in os.environ}
