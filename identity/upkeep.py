"""What identity does by itself: reload its folder, renew its intermediate and its own certificate."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import UTC, datetime, timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from identity.authority import Authority
from identity.guarded import MaterialError
from identity.issuance import Issuance
from identity.metrics import Metrics
from identity.refusal import Refused
from identity.service import BundleFeed
from identity.spiffe_id import SpiffeId
from servicekit.svid import Svid
from servicekit.tls import ServerTls, server_context

PERIOD_SECONDS = 2.0
ALERT_DAYS = (1, 7, 30)
"""Days before the end of a CA certificate from which the log says so, once each."""

_log = structlog.get_logger(__name__)


class Upkeep:
    """Keeps issuer, bundles and identity's own TLS current. `prepare` once, then `run` until cancelled."""

    def __init__(
        self, authority: Authority, issuance: Issuance, own: SpiffeId, feed: BundleFeed, metrics: Metrics
    ) -> None:
        self._authority = authority
        self._issuance = issuance
        self._own = own
        self._feed = feed
        self._metrics = metrics
        self._tls: ServerTls | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        self._alerted: set[tuple[str, int]] = set()

    async def prepare(self) -> ServerTls:
        """Issue the server's certificate; raises Refused."""
        context = await self._renew_own()
        self._tls = ServerTls(context)
        self._alert()
        return self._tls

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.step()
            except Refused as refusal:
                _log.error("own_certificate_refused", code=str(refusal.code), detail=refusal.detail)
            except Exception:
                # What is in force stays in force, and is looked at again in a moment.
                _log.exception("upkeep_failed")

    async def step(self) -> None:
        """Look once at everything that can become old."""
        now = datetime.now(UTC)
        changed = self._reload(now) or self._authority.keep_up(now)
        try:
            if changed or now >= self._renew_at:
                assert self._tls is not None  # noqa: S101 — prepare comes first
                self._tls.replace(await self._renew_own())
        finally:
            # After our own certificate: who hears of new roots must find a server that verifies by them.
            if self._authority.bundles.sequence != self._feed.latest.sequence:
                self._feed.publish(self._authority.bundles)
        self._alert()

    def _reload(self, now: datetime) -> bool:
        try:
            changed = self._authority.reload(now)
        except MaterialError as error:
            self._metrics.reload_failed()
            _log.error("issuer_not_reloaded", problem=str(error), kept="the former one")
            return False
        if changed:
            _log.info("issuer_reloaded", sequence=self._authority.bundles.sequence)
            orphaned_until = self._authority.orphaned_until(now)
            if orphaned_until is not None:
                # Right where a root must go at once; in a rotation it is an outage until all have renewed.
                _log.error("root_dropped_early", certificates_refused_until=orphaned_until.isoformat())
        return changed

    async def _renew_own(self) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = await self._issuance.certify_self(self._own, key.public_key())
        svid = Svid.of(key, issued.chain)
        half = (svid.not_after - datetime.now(UTC)) / 2
        self._renew_at = datetime.now(UTC) + half * random.uniform(0.9, 1.1)  # noqa: S311 — jitter
        roots = self._authority.bundles.of(self._authority.trust_domain)
        return server_context(svid, roots, ssl.CERT_OPTIONAL)

    def _alert(self) -> None:
        """Say 30, 7 and 1 days before a CA certificate ends that it does."""
        expiries = self._authority.expiries
        self._metrics.expiries(expiries)
        # The intermediate of our own making is renewed by us; its root's end is what matters.
        left = expiries["root"] - datetime.now(UTC)
        for days in ALERT_DAYS:
            if left <= timedelta(days=days):
                if ("root", days) not in self._alerted:
                    self._alerted.add(("root", days))
                    _log.warning("root_ends_soon", not_after=expiries["root"].isoformat())
                return
