"""The serving certificate, kept in a Secret that all replicas share: whoever writes first, wins."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, Told, Undecodable
from policyd.serving.certificate import Material, packed, unpacked, upkeep

LOOK_SECONDS: Final = 60.0
"""How often is asked whether anything is due; renewals are weeks before the end."""
RETRY_SECONDS: Final = 2.0
_log = structlog.get_logger()


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Metadata
    data: dict[str, bytes] | None = None


class CertificateKeeper:
    """Follows the Secret, renews what is in it, and tells what is to be shown."""

    def __init__(
        self, client: Client, secret: tuple[str, str], names: Sequence[str], tell: Callable[[Material], None]
    ) -> None:
        """`secret` is (namespace, name); `tell` is called with each new material."""
        self._client = client
        self._path = ResourcePath("", "v1", "secrets", secret[0])
        self._name = secret[1]
        self._names = tuple(names)
        self._tell = tell
        self._material: Material | None = None
        self._version: str | None = None
        self._stirred = asyncio.Event()
        self._there = asyncio.Event()
        decoder = msgspec.json.Decoder(_Secret)
        select = {"fieldSelector": f"metadata.name={self._name}"}
        self._reflector: Reflector[_Secret] = Reflector(
            client, self._path, decoder.decode, self._take, select
        )

    async def ready(self) -> None:
        """Return when there is a certificate to show."""
        await self._there.wait()

    async def run(self) -> None:
        """Follow and renew for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reflector.run())
            tasks.create_task(self._upkeep())

    def _take(self, told: Told[_Secret]) -> None:
        for change in told.changes:
            if isinstance(change, Applied) and not isinstance(change.object, Undecodable):
                self._version = change.object.metadata.resource_version
                found = unpacked(change.object.data or {})
                if found is not None:
                    self._adopt(found)
                elif change.object.data:
                    _log.warning("certificate_unusable", secret=self._name)
                    self._material = None
            else:
                self._version = self._material = None
        self._stirred.set()

    def _adopt(self, material: Material) -> None:
        if material != self._material:
            self._material = material
            self._tell(material)
            _log.info("certificate_shown", until=material.ends.isoformat())
        self._there.set()

    async def _upkeep(self) -> None:
        await self._reflector.listed.wait()
        while True:
            self._stirred.clear()
            try:
                await self._renew()
                wait = LOOK_SECONDS
            except (ApiError, AccessError) as error:
                _log.warning("certificate_not_kept", problem=str(error))
                wait = RETRY_SECONDS
            try:
                async with asyncio.timeout(wait):
                    await self._stirred.wait()
            except TimeoutError:
                pass

    async def _renew(self) -> None:
        """Write what is due. A conflict is another replica's writing, which the watch will tell."""
        due = upkeep(self._material, self._names, datetime.now(UTC))
        if due is self._material:
            return
        data = {name: b64encode(part).decode() for name, part in packed(due).items()}
        body: dict[str, object] = {"metadata": {"name": self._name}, "data": data}
        try:
            if self._version is None:
                answer = await self._client.create(
                    self._path, {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", **body}
                )
            else:
                body["metadata"] = {"resourceVersion": self._version}
                answer = await self._client.merge(self._path, self._name, body)
        except ApiError as error:
            if not error.conflict:
                raise
            return
        self._version = answer.into(_Secret).metadata.resource_version
        self._adopt(due)
