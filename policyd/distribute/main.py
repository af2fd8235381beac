"""`policyd --config FILE`: tell every proxy what it enforces, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog
from prometheus_client.registry import Collector

from identity.spiffe_id import SpiffeId, SpiffeIdError, TrustDomain
from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.errors import AccessError
from policyd.distribute.acknowledged import ConnectedProxies
from policyd.distribute.audit_trail import AuditTrail
from policyd.distribute.basis import Basis
from policyd.distribute.controller import Controller
from policyd.distribute.credentials import Credentials
from policyd.distribute.metrics import ControllerMetrics
from policyd.distribute.port import StreamPort
from policyd.distribute.relayed import RelayService
from policyd.distribute.service import PolicyStreamService
from policyd.distribute.settings import ClusterSettings, Settings
from policyd.distribute.status import StatusSocket
from policyd.engine import Fanout
from policyd.errors import PolicydError
from policyd.sources.folder import Folder
from policyd.sources.kubernetes.cluster_source import ClusterSource
from policyd.sources.source import Source
from policyd.status.metrics import StatusMetrics
from policyd.status.service import StatusService
from servicekit.config import ConfigError, load_config, split_address
from servicekit.launch import launch
from servicekit.renewal import Enrolment, SvidSource
from servicekit.server import ListenError
from servicekit.shutdown import stop_requested

if TYPE_CHECKING:
    from policyd.audit_api.service import AuditApiService

_FAULTS = (ConfigError, ListenError, SpiffeIdError, PolicydError, AccessError, OSError)
_FIELD_MANAGER = "policyd"
SHOWN_SECONDS = 10.0
"""How long giving the Lease and the report back may take; a pod has 30 s to end."""
SELDOM = 100_000
"""Objects made, less those that went, between two looks for garbage at the start; Python's own: 700."""


@click.command()
@click.option("--config", "config", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option(
    "--audit-postgres",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file with a connection string: denials are kept in that database.",
)
@click.option("--debug", is_flag=True, help="Verbose logs, and a traceback where it doesn't start.")
def main(config: Path, audit_postgres: Path | None, debug: bool) -> None:
    """Run the policy controller."""
    launch("policyd", lambda: run(_settings(config, audit_postgres)), _FAULTS, debug)


def _settings(config: Path, audit_postgres: Path | None) -> Settings:
    """Read the file; what the command line says counts before it. Raises ConfigError."""
    settings = load_config(config, Settings)
    if audit_postgres is None:
        return settings
    audit = settings.audit.model_copy(update={"postgres": audit_postgres})
    return settings.model_copy(update={"audit": audit})


async def run(settings: Settings) -> None:
    """Serve until asked to stop. Raises one of _FAULTS where it can't start."""
    stop = stop_requested()
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        sources: list[Source] = [Folder(path) for path in settings.sources]
        access = None if settings.cluster is None else _access(settings.cluster)
        cluster: Followed | None = None
        if access is not None:
            cluster = Followed(access, Client(access, _FIELD_MANAGER))
            sources.append(ClusterSource(await stack.enter_async_context(cluster.client)))
        await _run(settings, sources, cluster, stop)


def _access(cluster: ClusterSettings) -> Access:
    """Say who we are. Raises AccessError."""
    if cluster.kubeconfig is None and cluster.context is None:
        return Access.in_cluster()
    return Access.kubeconfig(cluster.kubeconfig, cluster.context)


@dataclass(frozen=True, slots=True)
class Followed:
    """The cluster that is one of the sources."""

    access: Access
    client: Client


async def _run(
    settings: Settings, sources: list[Source], cluster: Followed | None, stop: asyncio.Event
) -> None:
    fanout = Fanout()
    credentials = Credentials(TrustDomain(settings.trust_domain), fanout.adopt)
    controller = Controller(sources, settings.trust_domain, settings.extra_cluster_networks)
    audit = AuditTrail(settings, controller, credentials)
    socket = settings.status_socket or settings.state_dir / "status.sock"
    status = StatusSocket(socket, controller, audit.store)
    api = _audit_api(settings, cluster, audit, controller)
    try:
        audit.start()
        basis = Basis(settings.state_dir / "basis.json", sources)
        with _few_collections():
            started = await _unless(stop, controller.start(basis))
        if not started:
            return
        await status.open()
        policy = PolicyStreamService(controller, controller.publisher, fanout)
        relay = RelayService(audit.service.deliver, fanout)
        port = StreamPort(fanout, {"policy": policy, "audit": relay})
        proxies = ConnectedProxies(controller, fanout)
        async with _shown(settings, cluster, proxies, audit) as shown:
            more = [audit.metrics, *shown, *([api.metrics] if api else [])]
            _serve_metrics(settings, ControllerMetrics(controller, fanout.figures), more)
            await _serve(settings, Serving(controller, credentials, port, api), stop)
    finally:
        controller.close()
        await status.close()
        await asyncio.to_thread(audit.close)


@contextlib.asynccontextmanager
async def _shown(
    settings: Settings, cluster: Followed | None, proxies: ConnectedProxies, audit: AuditTrail
) -> AsyncIterator[Sequence[Collector]]:
    """Write statuses and Events meanwhile: of a cluster only, since files have none. Gives its metrics."""
    if cluster is None:
        yield ()
        return
    controller = proxies.controller
    made = StatusService(cluster.access, settings.namespace, controller.compiler, proxies)
    made.is_sound = lambda: controller.broken is None
    audit.service.observe = made.denials.observe
    running = asyncio.create_task(made.run())
    try:
        yield (StatusMetrics(made),)
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=SHOWN_SECONDS)


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Look seldom for garbage while the first state is read, and never again among what is there then.

    It stays for the most part, and to look through it takes a second where there are ten thousand pods, in
    which nobody is told anything. What goes of it is freed when nothing refers to it any more, as ever.
    """
    usual = gc.get_threshold()
    gc.set_threshold(SELDOM, *usual[1:])
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*usual)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do some work, unless we are asked to stop before it is done; whether it was."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        working.cancel()
        stopping.cancel()


@dataclass(frozen=True, slots=True)
class Serving:
    """What the one port offers, and by what right."""

    controller: Controller
    credentials: Credentials
    port: StreamPort
    audit_api: AuditApiService | None


def _audit_api(
    settings: Settings, cluster: Followed | None, audit: AuditTrail, controller: Controller
) -> AuditApiService | None:
    if settings.audit_api is None or cluster is None:
        return None
    from policyd.audit_api.service import AuditApiService  # noqa: PLC0415 — a web server
    from policyd.distribute.enforced import EnforcedNow  # noqa: PLC0415

    standing = EnforcedNow(controller)
    return AuditApiService(settings.audit_api, settings.namespace, cluster.client, audit.store, standing)


async def _serve(settings: Settings, serving: Serving, stop: asyncio.Event) -> None:
    """Follow the sources, obtain an SVID, accept streams; end when asked, or when one can't go on."""
    controller, credentials = serving.controller, serving.credentials
    source = SvidSource(_enrolment(settings), credentials.adopt)
    following = asyncio.create_task(controller.follow())
    enrolling = asyncio.create_task(source.obtain_patiently())
    stopping = asyncio.create_task(stop.wait())
    tasks = [following, enrolling, stopping]
    if serving.audit_api is not None:
        # Also before there is an SVID: what was kept can be read, whatever identity does.
        tasks.append(asyncio.create_task(serving.audit_api.run()))
    try:
        await _first_of(tasks)
        if not credentials.chain:
            return
        address = await serving.port.listen(*split_address(settings.listen))
        _say({"event": "policyd_ready", "address": address})
        tasks.append(asyncio.create_task(source.run()))
        await _first_of([task for task in tasks if task is not enrolling])
    finally:
        if serving.audit_api is not None:
            await serving.audit_api.close()
        for task in tasks:
            task.cancel()
        await serving.port.close()


async def _first_of(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until one of them is done; raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _enrolment(settings: Settings) -> Enrolment:
    trust_domain = TrustDomain(settings.trust_domain)
    host, port = split_address(settings.identity.address)
    return Enrolment(
        own=SpiffeId.of_service_account(trust_domain, settings.namespace, "policyd"),
        identity=SpiffeId.of_service_account(trust_domain, settings.namespace, "identity"),
        host=host,
        port=port,
        token_file=settings.token_file,
        roots_file=settings.roots_file,
    )


def _serve_metrics(settings: Settings, metrics: ControllerMetrics, more: Sequence[Collector]) -> None:
    if settings.metrics_listen is None:
        return
    try:
        metrics.serve(*split_address(settings.metrics_listen), *more)
    except OSError as error:
        raise ListenError(f"metricsListen {settings.metrics_listen}: {error.strerror}") from error


def _say(line: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    structlog.get_logger().info("started", **{key: value for key, value in line.items() if key != "event"})


if __name__ == "__main__":
    main()
