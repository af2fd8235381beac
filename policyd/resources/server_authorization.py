"""ServerAuthorization: Linkerd's older kind, an Allow on Servers of its group (semantics A8)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from policyd.resources.identities import IdentityForm
from policyd.resources.networks import Network
from policyd.resources.selectors import LabelSelector
from policyd.resources.spec import Items, NamespaceName, ObjectName, Spec


class ServerChoice(Spec):
    """Servers of the same namespace, by name or by their labels."""

    name: ObjectName | None = None
    """One Server."""
    selector: LabelSelector | None = None
    """Servers with these labels."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.name is None) is (self.selector is None):
            raise ValueError("expected exactly one of name and selector")
        return self


class ServiceAccountName(Spec):
    """A ServiceAccount."""

    name: ObjectName
    """Its name."""
    namespace: NamespaceName | None = None
    """Its namespace; by default that of the ServerAuthorization."""


class MeshTLSClient(Spec):
    """Clients by identity."""

    unauthenticated_tls: Annotated[bool, Field(alias="unauthenticatedTLS")] = False
    """Every verified identity of our own trust domain (semantics I2)."""
    identities: Annotated[Items[IdentityForm], Field(min_length=1, max_length=10_000)] | None = None
    """Forms of identity."""
    service_accounts: Annotated[Items[ServiceAccountName], Field(min_length=1, max_length=1000)] | None = None
    """ServiceAccounts."""

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        listed = self.identities is not None or self.service_accounts is not None
        if self.unauthenticated_tls and listed:
            raise ValueError(
                "unauthenticatedTLS beside identities or serviceAccounts: expected one or the other"
            )
        if not self.unauthenticated_tls and not listed:
            raise ValueError("expected identities, serviceAccounts or unauthenticatedTLS: true")
        return self


class Client(Spec):
    """Who may reach the Servers."""

    networks: Annotated[Items[Network], Field(min_length=1, max_length=10_000)] | None = None
    """Where clients come from; by default the cluster networks."""
    unauthenticated: bool = False
    """Clients need no identity."""
    mesh_tls: Annotated[MeshTLSClient | None, Field(alias="meshTLS")] = None
    """Clients need one of these identities."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.unauthenticated and self.mesh_tls is not None:
            raise ValueError("unauthenticated beside meshTLS: expected one or the other")
        if not self.unauthenticated and self.mesh_tls is None:
            raise ValueError("expected meshTLS or unauthenticated: true")
        return self


class ServerAuthorizationSpec(Spec):
    """An Allow on the Servers that it names or selects."""

    server: ServerChoice
    """The Servers."""
    client: Client
    """Who may reach them."""
