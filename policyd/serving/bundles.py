"""What the API server trusts when it calls us: the caBundle of an object of ours, kept by watching it.

Whoever applies the object anew wipes it (seen in other products); it is back within a second.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Final

import msgspec
import structlog

from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, Told, Undecodable

RETRY_SECONDS: Final = 5.0
_log = structlog.get_logger()


class _ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    ca_bundle: str | None = None


class _Webhook(msgspec.Struct, frozen=True, rename="camel"):
    client_config: _ClientConfig


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    ca_bundle: str | None = None


class _Trusting(msgspec.Struct, frozen=True):
    """A webhook configuration, which has `webhooks`, or an APIService, which has a `spec`."""

    metadata: _Metadata
    webhooks: list[_Webhook] | None = None
    spec: _Spec | None = None

    def steps(self, bundle: str) -> list[dict[str, str]]:
        """Return what a JSON patch has to do so that all of it trusts these certificates."""
        held = {
            f"/webhooks/{index}/clientConfig/caBundle": each.client_config.ca_bundle
            for index, each in enumerate(self.webhooks or [])
        }
        if self.spec is not None:
            held["/spec/caBundle"] = self.spec.ca_bundle
        return [{"op": "add", "path": path, "value": bundle} for path, had in held.items() if had != bundle]


class BundleKeeper:
    """One object; `run` it until cancelled."""

    def __init__(self, client: Client, path: ResourcePath, name: str) -> None:
        self._client = client
        self._path = path
        self._name = name
        self._bundle: str | None = None
        self._seen: _Trusting | None = None
        self._stirred = asyncio.Event()
        select = {"fieldSelector": f"metadata.name={name}"}
        decoder = msgspec.json.Decoder(_Trusting)
        self._reflector: Reflector[_Trusting] = Reflector(
            client, self._path, decoder.decode, self._take, select
        )

    def want(self, bundle: bytes) -> None:
        """Have these certificates (PEM) trusted."""
        self._bundle = b64encode(bundle).decode()
        self._stirred.set()

    async def run(self) -> None:
        """Follow and mend for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reflector.run())
            tasks.create_task(self._mending())

    def _take(self, told: Told[_Trusting]) -> None:
        for change in told.changes:
            readable = isinstance(change, Applied) and not isinstance(change.object, Undecodable)
            self._seen = change.object if readable else None  # type: ignore[union-attr, assignment]
        self._stirred.set()

    async def _mending(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            try:
                await self._mend()
            except (ApiError, AccessError) as error:
                # A 422 is the `test` that failed: somebody changed it meanwhile, and the watch tells.
                if not (isinstance(error, ApiError) and error.status in {409, 422}):
                    _log.warning("bundle_not_kept", of=self._name, problem=str(error))
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._stirred.set)

    async def _mend(self) -> None:
        if self._seen is None or self._bundle is None:
            return
        steps = self._seen.steps(self._bundle)
        if not steps:
            return
        version = self._seen.metadata.resource_version
        guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        await self._client.patch(self._path, self._name, [guard, *steps])
        _log.info("bundle_written", of=self._name, places=len(steps))
