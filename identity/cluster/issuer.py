"""The API server as issuer of tokens: its name and keys, as it publishes them, kept current."""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from identity.jwks import Issuer, JwksError, usable_keys
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/openid/v1/jwks"
"""Always the API server's own, whatever `jwks_uri` says: no other host is asked."""
REFRESH_SECONDS = 300.0
LEAST_SECONDS = 10.0
"""How soon an unknown key may cause another reading; until then TokenReview answers for it."""
READ_SECONDS = 5.0
NO_ISSUER = Issuer("", {})
"""Before the first reading: knows no key, so that every token is one for TokenReview."""

_log = structlog.get_logger(__name__)


class _Discovery(msgspec.Struct):
    issuer: str


class ClusterIssuer:
    """`current` is what was read last; what can't be read again stays. `run` until cancelled."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._current = NO_ISSUER
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def current(self) -> Issuer:
        return self._current

    async def refresh(self) -> None:
        """Read again unless that was tried a moment ago; what fails is logged."""
        async with self._lock:
            if time.monotonic() - self._read_at < LEAST_SECONDS:
                return
            try:
                async with asyncio.timeout(READ_SECONDS):
                    self._current = await self._read()
            except (ApiError, AccessError, JwksError, TimeoutError) as error:
                problem = str(error) or f"no answer within {READ_SECONDS:.0f} s"
                _log.warning("issuer_keys_not_read", problem=problem, kept=len(self._current.keys))
            self._read_at = time.monotonic()

    async def run(self) -> None:
        """Keep the keys current; while there are none, try as often as that is allowed."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS if self._current.keys else LEAST_SECONDS)

    async def _read(self) -> Issuer:
        discovery = (await self._client.raw(DISCOVERY)).into(_Discovery)
        keys = usable_keys((await self._client.raw(JWKS)).body, JWKS)
        return Issuer(discovery.issuer, keys)
