"""The trust bundle where pods can mount it: a ConfigMap in every namespace.

Several replicas publish. None of them goes back: who still has the former roots, because the kubelet brought
the new ones to others first, leaves alone what has a higher sequence than its own.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from typing import Any

import msgspec
import structlog

from identity.cluster.state import State
from identity.service import BundleFeed
from identity.spiffe_id import TrustDomain
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from kubeapi.told import ObjectName

NAME = "policyd-trust-bundle"
"""Of the ConfigMaps."""
KEY = "ca.pem"
"""Their only key: the roots in PEM."""
SEQUENCE = "policyd.dev/bundle-sequence"
"""Annotation: the bundle's sequence, which is at least the clock in milliseconds (decision 4)."""
AHEAD_MILLIS = 5 * 60 * 1000
"""A sequence further ahead of our clock than this is nobody's, and is overwritten."""
MOST_AT_ONCE = 4
"""Requests at the same time: one change of roots writes to every namespace."""
_BACKOFF_SECONDS = (0.5, 60.0)
_LABELS = {"app.kubernetes.io/part-of": "policyd", "app.kubernetes.io/component": "trust-bundle"}

_log = structlog.get_logger(__name__)


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class Namespace(msgspec.Struct, frozen=True):
    """A Namespace, as far as it is read here."""

    metadata: Meta


class Published(msgspec.Struct, frozen=True):
    """A ConfigMap of ours, as far as it is read here."""

    metadata: Meta
    data: dict[str, str] = {}


class BundleText:
    """The trust bundle as objects carry it, and which of them it may replace."""

    def __init__(self, feed: BundleFeed, trust_domain: TrustDomain) -> None:
        self.feed = feed
        self._trust_domain = trust_domain

    @property
    def pem(self) -> str:
        """All roots, one after the other."""
        return "".join(ssl.DER_cert_to_PEM_cert(root) for root in self.feed.latest.of(self._trust_domain))

    def replaces(self, text: str, annotations: dict[str, str]) -> bool:
        """Whether what is there is to be replaced: it differs, and isn't a later bundle than ours."""
        if text == self.pem:
            return False
        said = annotations.get(SEQUENCE, "")[:20]
        sequence = int(said) if said.isascii() and said.isdigit() else 0
        is_credible = sequence <= time.time_ns() // 1_000_000 + AHEAD_MILLIS
        return sequence <= self.feed.latest.sequence or not is_credible

    def head(self, version: str, kind: str, name: str) -> dict[str, Any]:
        """Return all of the object but the bundle."""
        annotations = {SEQUENCE: str(self.feed.latest.sequence)}
        metadata = {"name": name, "labels": _LABELS, "annotations": annotations}
        return {"apiVersion": version, "kind": kind, "metadata": metadata}


class Publisher:
    """Writes only where what is there isn't what it should be. `run` until cancelled."""

    def __init__(self, client: Client, text: BundleText) -> None:
        self._client = client
        self._text = text
        maps, ours = ResourcePath("", "v1", "configmaps"), {"fieldSelector": f"metadata.name={NAME}"}
        self._maps = State(client, maps, Published, ours, lambda name: self._look_at(name.namespace))
        namespaces = ResourcePath("", "v1", "namespaces")
        self._namespaces = State(client, namespaces, Namespace, None, lambda name: self._look_at(name.name))
        self._due: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._namespaces.run())
            tasks.create_task(self._maps.run())
            tasks.create_task(self._follow_feed())
            tasks.create_task(self._publish())

    def _look_at(self, *namespaces: str) -> None:
        self._due.update(namespaces)
        self._wake.set()

    async def _follow_feed(self) -> None:
        while True:
            await self._text.feed.wait_past(self._text.feed.latest.sequence)
            self._look_at(*(name.name for name in self._namespaces.objects))

    async def _publish(self) -> None:
        # Before both are known, everything would seem to be missing.
        await self._namespaces.reflector.listed.wait()
        await self._maps.reflector.listed.wait()
        slots, delay = asyncio.Semaphore(MOST_AT_ONCE), _BACKOFF_SECONDS[0]
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = sorted(self._due), set()
            settled = await asyncio.gather(*(self._settle(name, slots) for name in due))
            left = [name for name, done in zip(due, settled, strict=True) if not done]
            if not left:
                delay = _BACKOFF_SECONDS[0]
                continue
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 — jitter
            delay = min(2 * delay, _BACKOFF_SECONDS[1])
            self._look_at(*left)

    async def _settle(self, name: str, slots: asyncio.Semaphore) -> bool:
        """Bring a namespace's ConfigMap up to date; whether nothing is left to do."""
        async with slots:
            namespace = self._namespaces.objects.get(ObjectName("", name))
            if namespace is None or namespace.metadata.deletion_timestamp is not None:
                return True
            present = self._maps.objects.get(ObjectName(name, NAME), Published(Meta()))
            if not self._text.replaces(present.data.get(KEY, ""), present.metadata.annotations):
                return True
            body = self._text.head("v1", "ConfigMap", NAME) | {"data": {KEY: self._text.pem}}
            try:
                await self._client.apply(ResourcePath("", "v1", "configmaps", name), NAME, body)
            except (ApiError, AccessError) as error:
                # A namespace that went, or is going, takes nothing new.
                if isinstance(error, ApiError) and (error.not_found or "being terminated" in error.message):
                    return True
                _log.warning("bundle_not_published", namespace=name, problem=str(error))
                return False
            return True
