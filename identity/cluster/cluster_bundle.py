"""The trust bundle as a ClusterTrustBundle, which a kubelet can project into pods, where these are served."""

from __future__ import annotations

import asyncio
import random

import msgspec
import structlog

from identity.cluster.bundles import BundleText, Meta
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath

GROUP = "certificates.k8s.io"
VERSIONS = ("v1", "v1beta1")
"""Versions of the group that may serve ClusterTrustBundles: GA in 1.37, off by default before (KEP-3257)."""
SIGNER = "policyd.dev/identity"
NAME = "policyd.dev:identity:trust-bundle"
"""The API wants the signer's name in it."""
LOOK_AGAIN_SECONDS = 60.0
"""How often it is looked at; it isn't watched."""

_log = structlog.get_logger(__name__)


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    trust_bundle: str = ""


class _Bundle(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: _Spec = _Spec()


class _Resource(msgspec.Struct):
    name: str


class _Resources(msgspec.Struct):
    resources: list[_Resource] = []


class ClusterPublisher:
    """Writes it where it isn't what it should be. `run` until cancelled."""

    def __init__(self, client: Client, text: BundleText) -> None:
        self._client = client
        self._text = text

    async def run(self) -> None:
        while True:
            sequence = self._text.feed.latest.sequence
            try:
                await self.settle()
            except (ApiError, AccessError) as error:
                _log.warning("cluster_bundle_not_published", problem=str(error))
            wait = LOOK_AGAIN_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 — jitter
            try:
                async with asyncio.timeout(wait):
                    await self._text.feed.wait_past(sequence)
            except TimeoutError:
                continue

    async def settle(self) -> None:
        """Look once, and write where need be; raises ApiError, AccessError."""
        path = await self._served()
        if path is None:
            return
        try:
            present = (await self._client.get(path, NAME)).into(_Bundle)
        except ApiError as error:
            if not error.not_found:
                raise
            present = _Bundle(Meta())
        if self._text.replaces(present.spec.trust_bundle, present.metadata.annotations):
            head = self._text.head(f"{GROUP}/{path.version}", "ClusterTrustBundle", NAME)
            spec = {"signerName": SIGNER, "trustBundle": self._text.pem}
            await self._client.apply(path, NAME, head | {"spec": spec})

    async def _served(self) -> ResourcePath | None:
        for version in VERSIONS:
            path = ResourcePath(GROUP, version, "clustertrustbundles")
            try:
                found = (await self._client.raw(f"/apis/{GROUP}/{version}")).into(_Resources)
            except ApiError as error:
                if not error.not_found:
                    raise
                continue
            if any(each.name == path.plural for each in found.resources):
                return path
        return None
