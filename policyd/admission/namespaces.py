"""The labels and annotations of all namespaces, followed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, Told, Undecodable
from policyd.admission.enrolment import NamespaceFacts


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None


class _Namespace(msgspec.Struct, frozen=True):
    metadata: _Metadata


class NamespaceWatch:
    """What is known of each namespace; `run` it until cancelled."""

    def __init__(self, client: Client) -> None:
        self._known: dict[str, NamespaceFacts] = {}
        decoder = msgspec.json.Decoder(_Namespace)
        self._reflector: Reflector[_Namespace] = Reflector(
            client, ResourcePath("", "v1", "namespaces"), decoder.decode, self._take
        )

    def find(self, name: str) -> NamespaceFacts | None:
        """Return what is known of a namespace."""
        return self._known.get(name)

    async def run(self) -> None:
        """Follow namespaces for ever."""
        await self._reflector.run()

    async def listed(self) -> None:
        """Return when all namespaces are known."""
        await self._reflector.listed.wait()

    def _take(self, told: Told[_Namespace]) -> None:
        for change in told.changes:
            if isinstance(change, Applied) and not isinstance(change.object, Undecodable):
                found = change.object.metadata
                self._known[found.name] = NamespaceFacts(
                    found.name, found.labels or {}, found.annotations or {}
                )
            else:
                self._known.pop(change.name.name, None)
