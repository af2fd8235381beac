"""NetworkAuthentication: addresses that clients come from, in our group and in Linkerd's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from policyd.resources.networks import Network
from policyd.resources.spec import Items, Spec


class NetworkAuthenticationSpec(Spec):
    """Networks; the address of the client's TCP connection must lie in one of them."""

    networks: Annotated[Items[Network], Field(min_length=1, max_length=10_000)]
    """CIDRs and exceptions."""
