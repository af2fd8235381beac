"""`policyd-injector --config FILE`: answer the API server about pods and policies, until SIGTERM."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.errors import AccessError
from kubeapi.path import ResourcePath
from policyd.admission.app import application
from policyd.admission.handlers import injector, validator
from policyd.admission.metrics import AdmissionMetrics
from policyd.admission.namespaces import NamespaceWatch
from policyd.admission.settings import Settings
from policyd.admission.unmeshed_watch import UnmeshedWatch
from policyd.errors import PolicydError
from policyd.serving.bundles import BundleKeeper
from policyd.serving.certificate import Material
from policyd.serving.keeper import CertificateKeeper
from policyd.serving.server import Clients, WebServer
from servicekit.config import ConfigError, load_config, split_address
from servicekit.launch import launch
from servicekit.server import ListenError
from servicekit.shutdown import stop_requested

FIELD_MANAGER = "policyd-injector"
_GROUP = "admissionregistration.k8s.io"
_FAULTS = (ConfigError, ListenError, AccessError, PolicydError, OSError)


@click.command()
@click.option("--config", "config", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--debug", is_flag=True, help="Verbose logs, and a traceback where it doesn't start.")
def main(config: Path, debug: bool) -> None:
    """Run the admission webhooks."""
    launch("policyd-injector", lambda: run(load_config(config, Settings)), _FAULTS, debug)


async def run(settings: Settings) -> None:
    """Serve until asked to stop. Raises one of _FAULTS where it can't start."""
    stop = stop_requested()
    kubeconfig = settings.kubeconfig
    access = Access.in_cluster() if kubeconfig is None else Access.kubeconfig(kubeconfig)
    metrics = AdmissionMetrics()
    if settings.metrics_listen is not None:
        metrics.serve(*split_address(settings.metrics_listen))
    async with Client(access, FIELD_MANAGER) as client:
        parts = _parts(settings, client, metrics)
        stopping = asyncio.create_task(stop.wait())
        working = asyncio.create_task(_work(parts))
        serving = asyncio.create_task(_serve(settings, parts))
        done, _ = await asyncio.wait({stopping, working, serving}, return_when=asyncio.FIRST_COMPLETED)
        await _ended(serving)
        await parts.server.close()
        await _ended(working)
        await _ended(stopping)
        for task in done:
            task.result()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process is made of."""

    namespaces: NamespaceWatch
    keeper: CertificateKeeper
    bundles: tuple[BundleKeeper, ...]
    server: WebServer
    unmeshed: UnmeshedWatch


def _parts(settings: Settings, client: Client, metrics: AdmissionMetrics) -> Parts:
    namespaces = NamespaceWatch(client)
    handlers = {
        "/inject": injector(settings.injection, namespaces.find, enrolled=False),
        "/inject/enrolled": injector(settings.injection, namespaces.find, enrolled=True),
        "/validate": validator,
    }
    clients = settings.client_ca_file.read_text() if settings.client_ca_file is not None else None
    server = WebServer(application(handlers, metrics), None if clients is None else Clients(clients))
    mutating, validating = settings.mutating_configuration, settings.validating_configuration
    bundles = (
        BundleKeeper(client, ResourcePath(_GROUP, "v1", "mutatingwebhookconfigurations"), mutating),
        BundleKeeper(client, ResourcePath(_GROUP, "v1", "validatingwebhookconfigurations"), validating),
    )

    def show(material: Material) -> None:
        server.show(material)
        metrics.certificate_end.set(material.ends.timestamp())
        for each in bundles:
            each.want(material.bundle)

    secret = (settings.namespace, settings.secret)
    keeper = CertificateKeeper(client, secret, settings.certificate_names, show)
    unmeshed = UnmeshedWatch(client, namespaces.find, settings.injection)
    unmeshed.listeners.append(metrics.show_unmeshed)
    return Parts(namespaces, keeper, bundles, server, unmeshed)


async def _work(parts: Parts) -> None:
    """Follow all that is followed; ends only where one of it fails."""
    following: list[Coroutine[Any, Any, None]] = [
        parts.namespaces.run(),
        parts.keeper.run(),
        parts.unmeshed.run(),
        *(each.run() for each in parts.bundles),
    ]
    async with asyncio.TaskGroup() as tasks:
        for each in following:
            tasks.create_task(each)


async def _serve(settings: Settings, parts: Parts) -> None:
    """Listen as soon as every question can be answered, and until cancelled. Raises ListenError."""
    await parts.namespaces.listed()
    await parts.keeper.ready()
    host, port = await parts.server.open(*split_address(settings.listen))
    sys.stdout.write(json.dumps({"event": "injector_ready", "address": f"{host}:{port}"}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; what it failed with is the caller's."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    main()
