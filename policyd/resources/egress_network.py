"""EgressNetwork: Linkerd's kind, known but not enforced."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from policyd.resources.networks import Network
from policyd.resources.spec import Items, Spec


class EgressNetworkSpec(Spec):
    """Destinations outside of the cluster."""

    traffic_policy: Literal["Allow", "Deny"]
    """What happens to traffic there."""
    networks: Annotated[Items[Network], Field(min_length=1, max_length=1000)] | None = None
    """The destinations; by default everything outside of the cluster networks."""
