"""How replicas tell the leader what their proxies acknowledged: a key of one ConfigMap for each.

Each replica owns its key by server-side apply under a manager of its own, so that none writes over another's.
A report beats: one that the leader hasn't seen change for a while, or not once, doesn't count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import structlog

from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Gone, Told, Undecodable
from policyd.status import acks
from policyd.status.acks import Acks, Proxies

CONFIG_MAP = "policyd-acknowledged"
BEAT_SECONDS = 10.0
"""How often a report is written at least."""
STALE_SECONDS = 30.0
"""A report that is silent for so long says nothing of what is."""
LEAST_SECONDS = 1.0
"""How often a report is written at most."""
REMOVE_SECONDS = 600.0
"""A key that is silent for so long is a dead replica's, and is removed."""


def config_maps(namespace: str) -> ResourcePath:
    """Return where the ConfigMap of reports is."""
    return ResourcePath("", "v1", "configmaps", namespace)


def _body(namespace: str, data: dict[str, str | None]) -> dict[str, object]:
    metadata = {"name": CONFIG_MAP, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class Reporter:
    """Writes this replica's report while it doesn't lead; takes it back when it does, and at its end."""

    def __init__(self, access: Access, namespace: str, instance: str, proxies: Proxies) -> None:
        self.problem: str | None = None
        self._client = Client(access, f"policyd-acknowledged-{instance}")
        self._path = config_maps(namespace)
        self._namespace = namespace
        self._instance = instance
        self._proxies = proxies

    async def run(self, is_leader: Callable[[], bool]) -> None:
        """Report for ever. Whatever fails is tried again a beat later."""
        stirred: tuple[object, ...] | None = None
        written_at, is_written, beat = float("-inf"), False, 0
        try:
            while True:
                if is_leader():
                    if is_written:
                        is_written = not await self._write({})
                elif stirred != (now := self._proxies.stir()) or time.monotonic() - written_at > BEAT_SECONDS:
                    stirred, beat, is_written = now, beat + 1, True
                    report = acks.written(acks.own_acks(self._proxies), beat)
                    await self._write({self._instance: report})
                    written_at = time.monotonic()
                await asyncio.sleep(LEAST_SECONDS)
        finally:
            if is_written:
                await self._write({})
            await self._client.close()

    async def _write(self, data: dict[str, str | None]) -> bool:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await self._client.apply(self._path, CONFIG_MAP, _body(self._namespace, data))
        except (ApiError, AccessError, TimeoutError) as error:
            if self.problem is None:
                structlog.get_logger().warning(
                    "report_not_written", problem=str(error) or "no answer in time"
                )
            self.problem = str(error) or "no answer in time"
            return False
        self.problem = None
        return True


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


@dataclass(slots=True)
class _Heard:
    text: str
    acks: Acks = field(default_factory=dict)
    at: float = 0.0
    has_changed: bool = False
    """Seen to change: one that was there already may be a dead replica's."""


_DECODER = msgspec.json.Decoder(_ConfigMap)


class Peers:
    """What the leader hears of the other replicas."""

    def __init__(
        self, client: Client, namespace: str, own: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`own` is the key that this replica wrote before it led."""
        self.changes = 0
        """Rises with everything that was heard."""
        self._client = client
        self._namespace = namespace
        self._own = own
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        path = config_maps(namespace)
        select = {"fieldSelector": f"metadata.name={CONFIG_MAP}"}
        self.reflector: Reflector[_ConfigMap] = Reflector(client, path, _DECODER.decode, self.take, select)

    def take(self, told: Told[_ConfigMap]) -> None:
        """Take over the ConfigMap as it is now."""
        for change in told.changes:
            gone = isinstance(change, Gone) or isinstance(change.object, Undecodable)
            self.hear({} if gone else change.object.data)  # type: ignore[union-attr]

    def hear(self, data: dict[str, str]) -> None:
        """Take over all reports as they are now."""
        now = self._clock()
        for key in self._heard.keys() - data.keys():
            del self._heard[key]
        for key, text in data.items():
            heard = self._heard.get(key)
            if key == self._own or (heard is not None and heard.text == text):
                continue
            self._heard[key] = _Heard(text, acks.read(text), now, has_changed=heard is not None)
        self.changes += 1

    def acks(self) -> list[Acks]:
        """Return what the replicas say that are alive."""
        oldest = self._clock() - STALE_SECONDS
        return [each.acks for each in self._heard.values() if each.has_changed and each.at >= oldest]

    @property
    def alive(self) -> tuple[str, ...]:
        """The replicas whose reports count now."""
        oldest = self._clock() - STALE_SECONDS
        return tuple(sorted(k for k, each in self._heard.items() if each.has_changed and each.at >= oldest))

    async def tidy(self) -> None:
        """Remove the keys of replicas that are gone, for ever."""
        while True:
            await asyncio.sleep(REMOVE_SECONDS / 10)
            oldest = self._clock() - REMOVE_SECONDS
            dead: dict[str, str | None] = {key: None for key, each in self._heard.items() if each.at < oldest}
            if dead:
                try:
                    await self._client.merge(config_maps(self._namespace), CONFIG_MAP, {"data": dead})
                except (ApiError, AccessError) as error:
                    structlog.get_logger().warning("reports_not_removed", problem=str(error))
