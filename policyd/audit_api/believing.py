"""The ConfigMap that says whom to believe, followed: its authority is replaced while we run."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, Told, Undecodable
from policyd.audit_api.front_proxy import FrontProxy, read_front_proxy
from policyd.audit_api.names import CONFIG_NAME, CONFIG_NAMESPACE

_log = structlog.get_logger()


class _ConfigMap(msgspec.Struct, frozen=True):
    data: dict[str, str] | None = None


class FrontProxyWatch:
    """Tells what the ConfigMap says; None where it says nothing that can be used."""

    def __init__(self, client: Client, tell: Callable[[FrontProxy | None], None]) -> None:
        self._tell = tell
        decoder = msgspec.json.Decoder(_ConfigMap)
        path = ResourcePath("", "v1", "configmaps", CONFIG_NAMESPACE)
        select = {"fieldSelector": f"metadata.name={CONFIG_NAME}"}
        self._reflector: Reflector[_ConfigMap] = Reflector(client, path, decoder.decode, self._take, select)

    async def listed(self) -> None:
        """Return once it is known what it says."""
        await self._reflector.listed.wait()

    async def run(self) -> None:
        """Follow it for ever. What was told last counts while the API server is away."""
        await self._reflector.run()

    def _take(self, told: Told[_ConfigMap]) -> None:
        for change in told.changes:
            readable = isinstance(change, Applied) and not isinstance(change.object, Undecodable)
            self._tell(_usable(change.object) if readable else None)  # type: ignore[union-attr, arg-type]


def _usable(found: _ConfigMap) -> FrontProxy | None:
    try:
        front = read_front_proxy(found.data or {})
    except ValueError as error:
        # FAIL-CLOSED: without it nobody is the API server.
        _log.error("front_proxy_unusable", config_map=CONFIG_NAME, problem=str(error))
        return None
    _log.info("front_proxy_known", names=sorted(front.names), authorities=len(front.issuers))
    return front
