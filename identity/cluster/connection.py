"""All that identity has to do with the API server, as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from identity.cluster.bundles import BundleText, Publisher
from identity.cluster.cluster_bundle import ClusterPublisher
from identity.cluster.issuer import ClusterIssuer
from identity.cluster.presence import ClusterPods
from identity.cluster.review import TokenReviews
from identity.cluster.revoked import Revocations
from identity.cluster.tokens import ClusterTokens
from identity.metrics import Metrics
from identity.service import BundleFeed
from identity.settings import ClusterSettings
from identity.spiffe_id import TrustDomain
from kubeapi.access import Access
from kubeapi.client import Client

FIELD_MANAGER = "policyd-identity"
FIRST_STATE_SECONDS = 30.0
"""How long the first state is waited for before identity listens; without it, it refuses and says why."""
RESTART_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class Cluster:
    """`tokens`, `pods` and `revoked` are the checks; `run`, which publishes too, keeps them current."""

    def __init__(self, settings: ClusterSettings, metrics: Metrics) -> None:
        """Find out who we are there; raises AccessError."""
        where = settings.kubeconfig
        access = Access.in_cluster() if where is None else Access.kubeconfig(where)
        self._client = Client(access, FIELD_MANAGER)
        self._publishes = settings.publish_bundle
        self._metrics = metrics
        self._issuer = ClusterIssuer(self._client)
        reviews = TokenReviews(self._client, settings.audience, metrics)
        self.tokens = ClusterTokens(self._issuer, reviews, settings.audience)
        self.pods = ClusterPods(self._client)
        self.revoked = Revocations(self._client)
        metrics.watch_state_age(lambda: self.pods.age)

    async def first_state(self) -> None:
        """Return once it is known which pods there are, or after a bound."""
        try:
            async with asyncio.timeout(FIRST_STATE_SECONDS):
                await self.pods.complete()
        except TimeoutError:
            _log.warning("pods_not_known", waited_seconds=FIRST_STATE_SECONDS)

    async def run(self, feed: BundleFeed, trust_domain: TrustDomain) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._issuer.run())
            tasks.create_task(self.pods.run())
            tasks.create_task(self.revoked.run())
            if self._publishes:
                text = BundleText(feed, trust_domain)
                tasks.create_task(_keep_going(Publisher(self._client, text).run))
                tasks.create_task(_keep_going(ClusterPublisher(self._client, text).run))

    async def close(self) -> None:
        await self._client.close()


async def _keep_going(run: Callable[[], Awaitable[None]]) -> None:
    """Begin again what failed: certificates are issued also where bundles can't be published."""
    while True:
        try:
            await run()
        except Exception:
            _log.exception("publishing_failed")
        await asyncio.sleep(RESTART_SECONDS)
