"""The API as policyd serves it: its certificate kept, its caller known, its answers given."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.audit.store import Reading
from policyd.audit_api.app import AuditApi
from policyd.audit_api.believing import FrontProxyWatch
from policyd.audit_api.front_proxy import FrontProxy
from policyd.audit_api.metrics import AuditApiMetrics
from policyd.audit_api.reviews import Reviews
from policyd.audit_api.settings import AuditApiSettings
from policyd.audit_api.sight import Standing
from policyd.serving.bundles import BundleKeeper
from policyd.serving.certificate import Material
from policyd.serving.keeper import CertificateKeeper
from policyd.serving.server import Clients, WebServer
from servicekit.config import split_address
from servicekit.server import ListenError

AGAIN_SECONDS: Final = 10.0
"""How long it rests after a failure."""
_API_SERVICES: Final = ResourcePath("apiregistration.k8s.io", "v1", "apiservices")


class AuditApiService:
    """Runs beside the controller until cancelled. Whatever fails here, policy goes on being told."""

    def __init__(
        self, settings: AuditApiSettings, namespace: str, client: Client, store: Reading, standing: Standing
    ) -> None:
        self.metrics = AuditApiMetrics()
        self._settings = settings
        self._api = AuditApi(store, standing, Reviews(client), self.metrics)
        # Before anything is known of the front proxy no certificate is any good.
        self._server = WebServer(self._api.application, Clients("", required=False))
        self._bundle = BundleKeeper(client, _API_SERVICES, settings.api_service)
        self._front = FrontProxyWatch(client, self._believe)
        own = f"{settings.service}.{namespace}.svc"
        names = (own, f"{own}.cluster.local", *settings.names)
        self._keeper = CertificateKeeper(client, (namespace, settings.secret), names, self._show)

    async def run(self) -> None:
        """Serve; begin again where that fails. Raises ListenError where it can't be listened at all."""
        while True:
            try:
                await self._run()
            except* ListenError as listening:
                raise listening.exceptions[0] from None
            except* Exception:  # a bug in here must not end what proxies live on
                structlog.get_logger().exception("audit_api_failed", again_seconds=AGAIN_SECONDS)
            with contextlib.suppress(Exception):  # it may be what failed
                await self._server.close()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for each in (self._keeper, self._bundle, self._front, self._api.watches):
                tasks.create_task(each.run())
            tasks.create_task(self._serve())

    async def close(self) -> None:
        """Answer what was asked, and no more."""
        await self._server.close()
        self._api.close()

    async def _serve(self) -> None:
        await self._keeper.ready()
        await self._front.listed()
        host, port = await self._server.open(*split_address(self._settings.listen))
        structlog.get_logger().info("audit_api_ready", address=f"{host}:{port}")
        await asyncio.Event().wait()

    def _show(self, material: Material) -> None:
        self._server.show(material)
        self.metrics.certificate_end = material.ends.timestamp()
        self._bundle.want(material.bundle)

    def _believe(self, front: FrontProxy | None) -> None:
        self._api.front = front
        self._server.trust(Clients("" if front is None else front.authorities, required=False))
