"""HTTPLocalRateLimitPolicy: Linkerd's kind, known but not enforced."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from policyd.model.names import CORE, LINKERD_POLICY
from policyd.resources.references import IdentityRef, Kinds, TargetRef
from policyd.resources.spec import Items, Spec


class RateTarget(TargetRef):
    """The Server whose requests are counted."""

    allowed: ClassVar[Kinds] = frozenset({(LINKERD_POLICY, "Server")})


class RateClient(IdentityRef):
    """A ServiceAccount."""

    allowed: ClassVar[Kinds] = frozenset({(CORE, "ServiceAccount")})


class Rate(Spec):
    """A rate of requests."""

    requests_per_second: Annotated[int, Field(ge=1)]
    """Requests a second."""


class RateOverride(Rate):
    """A rate of some clients."""

    client_refs: Annotated[Items[RateClient], Field(min_length=1, max_length=256)]
    """The clients."""


class HTTPLocalRateLimitPolicySpec(Spec):
    """How many requests a Server takes."""

    target_ref: RateTarget
    """The Server."""
    total: Rate | None = None
    """Of all clients together."""
    identity: Rate | None = None
    """Of each client."""
    overrides: Annotated[Items[RateOverride], Field(max_length=256)] = ()
    """Of some clients."""
