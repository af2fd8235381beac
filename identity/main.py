"""`identity --config FILE`: run the certificate authority until SIGTERM."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from identity.audit import Journal, JournalError
from identity.authority import Authority
from identity.cluster.connection import Cluster
from identity.guarded import MaterialError
from identity.issuance import Checks, Issuance
from identity.jwks import JwksError
from identity.limits import Limits
from identity.metrics import Metrics
from identity.pods import FolderPods, Unchecked
from identity.refusal import Refused
from identity.service import BundleFeed, IdentityService
from identity.settings import Settings
from identity.spiffe_id import SpiffeId, SpiffeIdError, TrustDomain
from identity.tokens import JwksTokenVerifier
from identity.upkeep import Upkeep
from kubeapi.errors import AccessError
from servicekit.config import ConfigError, load_config, split_address
from servicekit.launch import launch
from servicekit.server import BoundedServer, ListenError
from servicekit.shutdown import stop_requested

DRAIN_SECONDS = 5.0
_FAULTS = (
    AccessError,
    ConfigError,
    MaterialError,
    JwksError,
    JournalError,
    ListenError,
    SpiffeIdError,
    Refused,
)


@click.command()
@click.option("--config", "config", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--debug", is_flag=True, help="Verbose logs, and a traceback where it doesn't start.")
def main(config: Path, debug: bool) -> None:
    """Run the certificate authority."""
    launch("identity", lambda: run(load_config(config, Settings), _say), _FAULTS, debug)


async def run(settings: Settings, say: Callable[[dict[str, str]], None]) -> None:
    """Serve until asked to stop; `say` gets the ready line. Raises one of _FAULTS where it can't start."""
    stop = stop_requested()
    metrics = Metrics()
    trust_domain = TrustDomain(settings.trust_domain)
    own = SpiffeId.of_service_account(trust_domain, settings.control_plane_namespace, "identity")
    authority = Authority(settings.issuer_folder, trust_domain, settings.leaf_lifetime, datetime.now(UTC))
    cluster = None if settings.cluster is None else Cluster(settings.cluster, metrics)
    checks = _checks(settings, cluster)
    journal = Journal(settings.journal)
    issuance = Issuance(authority, journal, checks)
    feed = BundleFeed(authority.bundles)
    upkeep = Upkeep(authority, issuance, own, feed, metrics)
    service = IdentityService(issuance, feed, metrics)
    background: list[asyncio.Task[None]] = []
    try:
        server = BoundedServer([service])
        if cluster is not None:
            background.append(asyncio.create_task(cluster.run(feed, trust_domain)))
            await _until(stop, [asyncio.create_task(cluster.first_state()), *background])
        address = await server.listen(*split_address(settings.listen), await upkeep.prepare())
        _serve_metrics(settings, metrics)
        say({"event": "identity_ready", "address": address, "identity": str(own)})
        background.append(asyncio.create_task(upkeep.run()))
        await _until(stop, background)
        await _drain(server, service)
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if cluster is not None:
            await cluster.close()
        await journal.close()


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait until asked to stop, or for the first task that ends; raises what it raised."""
    asked = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done - {asked}:
        await task
    asked.cancel()


async def _drain(server: BoundedServer, service: IdentityService) -> None:
    """Let what is being signed be answered, then end the streams too."""
    server.stop_listening()
    with suppress(TimeoutError):
        await asyncio.wait_for(service.finished(), DRAIN_SECONDS)
    server.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), DRAIN_SECONDS)


def _checks(settings: Settings, cluster: Cluster | None) -> Checks:
    if cluster is not None:
        return Checks(cluster.tokens, cluster.pods, Limits(), cluster.revoked)
    assert settings.tokens is not None  # noqa: S101 — the settings have the one or the other
    tokens = settings.tokens
    verifier = JwksTokenVerifier(tokens.jwks_file, tokens.issuer, tokens.audience)
    pods = Unchecked() if settings.pods_folder is None else FolderPods(settings.pods_folder)
    return Checks(verifier, pods, Limits())


def _serve_metrics(settings: Settings, metrics: Metrics) -> None:
    if settings.metrics_listen is None:
        return
    try:
        metrics.serve(*split_address(settings.metrics_listen))
    except OSError as error:
        raise ListenError(f"metricsListen {settings.metrics_listen}: {error.strerror}") from error


def _say(line: dict[str, str]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
