"""Tokens where there is an API server: offline first, then its own word wherever that is needed."""

from __future__ import annotations

import time
from collections.abc import Callable

from identity.cluster.issuer import ClusterIssuer
from identity.cluster.review import TokenReviews
from identity.tokens import Caller, Undecided, check_offline


class ClusterTokens:
    """A `TokenVerifier`: a first certificate needs a TokenReview, a renewal only where no key is known."""

    def __init__(
        self,
        issuer: ClusterIssuer,
        reviews: TokenReviews,
        audience: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._reviews = reviews
        self._audience = audience
        self._now = now

    async def verify(self, token: str, *, renewal: bool) -> Caller:
        # Offline first: junk costs the API server nothing.
        claimed = await self._claimed(token)
        if renewal and claimed is not None:
            return claimed
        return await self._reviews.review(token, claimed)

    async def _claimed(self, token: str) -> Caller | None:
        """Say who it is by the keys at hand; None where they say nothing. Raises Refused."""
        try:
            return self._check(token)
        except Undecided:
            await self._issuer.refresh()
        try:
            return self._check(token)
        except Undecided:
            return None

    def _check(self, token: str) -> Caller:
        return check_offline(token, self._issuer.current, self._audience, self._now())
