"""policyd-proxy, with the identity and the table that identity and policyd of the run give it."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.proxies.manifests import PORT, SERVICE_PORT, pod, pod_name
from bench.proxies.model import CLIENT, NAMESPACE, SERVER, TRUST_DOMAIN
from bench.proxies.place import Place
from bench.proxies.process import started
from bench.proxies.programs import Program
from bench.proxies.subject import OUTBOUND_PORT, Names, Running, wait_for_answer, wait_for_way
from policyd.model.names import AUDIENCE
from policyd.up.addresses import PodAddresses
from policyd.up.control_plane import NAMESPACE as CONTROL
from policyd.up.control_plane import ControlPlane, account_uid
from policyd.up.replica import ADMIN_PORT
from policyd.up.tokens import Holder, write_private


class PolicydProxy:
    """The proxy of this tree."""

    name = "policyd-proxy"
    # The header is what a proxy of ours says of a request that its application sent over HTTP/1.1 (decision
    # record 8), so that all proxies have the same application behind them.
    names = Names("policyd/1+http1", "policyd/1+h2", ("x-policyd-version: 1.1",))

    def __init__(self, program: Program, plane: ControlPlane, pods: Path) -> None:
        """`pods` is the folder of pods that identity and policyd watch."""
        self._program = program
        self._plane = plane
        self._pods = pods
        self._uids = {account: str(uuid.uuid4()) for account in (SERVER, CLIENT)}

    def missing(self) -> str | None:
        """Nothing: it is built from the tree."""
        return None

    def write_pods(self, place: Place) -> None:
        """Tell identity and policyd of both pods."""
        for account, addresses in ((SERVER, place.server), (CLIENT, place.client)):
            manifest = pod(account, self._uids[account], addresses.proxy)
            write_private(self._pods / f"{NAMESPACE}_{pod_name(account)}.json", json.dumps(manifest))

    @contextmanager
    def inbound(self, place: Place, core: int) -> Iterator[Running]:
        """Run it in front of the server."""
        with self._one(place, SERVER, core) as running:
            yield running

    @contextmanager
    def both(self, place: Place, core: int) -> Iterator[Running]:
        """Run it on either side."""
        with ExitStack() as stack:
            server = stack.enter_context(self._one(place, SERVER, core))
            client = stack.enter_context(self._one(place, CLIENT, core))
            address = (place.client.application, OUTBOUND_PORT)
            wait_for_way(place, address)
            yield Running((*server.pids, *client.pids), address, server.audit)

    @contextmanager
    def _one(self, place: Place, account: str, core: int) -> Iterator[Running]:
        addresses = place.server if account == SERVER else place.client
        folder = place.file(f"policyd-{account}")
        folder.mkdir(exist_ok=True)
        (folder / "state").mkdir(mode=0o700, exist_ok=True)
        settings = self._settings(account, addresses, folder)
        write_private(folder / "proxy.json", json.dumps(settings))
        write_private(folder / "token", self._token(account))
        _forget(folder / "state")
        log = folder / "denials.log"
        with started(self._program, ["--config", str(folder / "proxy.json")], core, log) as process:
            wait_for_answer((addresses.application, ADMIN_PORT), "/ready")
            yield Running((process.pid,), (addresses.proxy, PORT), log)

    def _settings(self, account: str, addresses: PodAddresses, folder: Path) -> dict[str, Any]:
        listen = {"listen": f"{addresses.proxy}:{PORT}", "application": f"{addresses.application}:{PORT}"}
        service = {
            "listen": f"{addresses.application}:{OUTBOUND_PORT}",
            "service": f"{NAMESPACE}/{SERVER}:{SERVICE_PORT}",
        }
        state = folder / "state"
        return {
            "trustDomain": TRUST_DOMAIN.name,
            "namespace": NAMESPACE,
            "serviceAccount": account,
            "podName": pod_name(account),
            "identity": {"address": self._plane.identity_address, "serviceAccount": "identity"},
            "policy": {"address": self._plane.policy_address, "serviceAccount": "policyd"},
            "controlPlaneNamespace": CONTROL,
            "tokenFile": str(folder / "token"),
            "rootsFile": str(self._plane.roots_file),
            "stateDir": str(state),
            "inbound": [listen] if account == SERVER else [],
            "outbound": [service] if account == CLIENT else [],
            "sourceAddress": addresses.proxy,
            "admin": f"{addresses.application}:{ADMIN_PORT}",
            "workers": 1,
        }

    def _token(self, account: str) -> str:
        uid = account_uid(NAMESPACE, account)
        holder = Holder(NAMESPACE, account, uid, pod_name(account), self._uids[account])
        return self._plane.tokens.mint(holder, AUDIENCE)


def _forget(state: Path) -> None:
    """As in a new pod the table comes over the stream, and no denials wait to be delivered.

    The certificate is kept: identity gives a pod few.
    """
    for kept in state.iterdir():
        if kept.is_dir():
            shutil.rmtree(kept)
        elif kept.name != "svid":
            kept.unlink()
