"""MeshDefaults: what a platform team fixes for all (semantics W6), read field by field (semantics U4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from policyd.resources.conditions import When
from policyd.resources.identities import IdentityForm, SpiffeId
from policyd.resources.instants import read_duration
from policyd.resources.networks import Cidr, Network
from policyd.resources.spec import Access, Cel, Instant, Items, Mode, NamespaceName, ObjectName, Spec

CLUSTER_NETWORKS = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
OPAQUE_PORTS = (25, 587, 3306, 4444, 5432, 6379, 9300, 11211)
Uid = Annotated[str, Field(min_length=1, max_length=64)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Duration = Annotated[
    timedelta,
    BeforeValidator(read_duration, json_schema_input_type=str),
    Field(json_schema_extra={"maxLength": 32}),
]
DEFAULT_NAME = "default"
"""The only name that counts."""


@dataclass(frozen=True, slots=True)
class UnreadableItem:
    """An item of `deny` or `require` that can't be read; a list that is no list is one item.

    `name` and `mode` are there where these could be read alone.
    """

    index: int | None
    name: str | None = None
    mode: Mode | None = None


class _Item(Spec):
    cel: ClassVar[tuple[Cel, ...]] = (
        Cel("has(self.identities) || has(self.networks)", "expected identities, networks or both"),
        Cel(
            "has(self.identities) || !has(self.except) || self.except.size() == 0",
            "except without identities: nothing to except from",
        ),
    )

    name: ObjectName
    """What the item is called in decisions."""
    identities: Annotated[Items[IdentityForm], Field(min_length=1, max_length=10_000)] | None = None
    """Forms of identity; left out they don't constrain."""
    except_: Annotated[Items[IdentityForm], Field(alias="except", max_length=10_000)] = ()
    """Forms of identity that don't count among `identities`."""
    networks: Annotated[Items[Network], Field(min_length=1, max_length=10_000)] | None = None
    """Where clients come from; left out they don't constrain."""
    when: When = ()
    """The requests that the item is about."""
    mode: Mode = "Enforce"
    """Audit records what the item would do and never changes a verdict."""

    @model_validator(mode="after")
    def _constrains(self) -> Self:
        if self.identities is None and self.networks is None:
            raise ValueError("expected identities, networks or both")
        if self.identities is None and self.except_:
            raise ValueError("except without identities: nothing to except from")
        return self


class DenyItem(_Item):
    """Refuses what matches, in the whole mesh."""

    cel: ClassVar[tuple[Cel, ...]] = (
        *_Item.cel,
        Cel(
            "!has(self.identities) || has(self.withoutIdentity)",
            "expected withoutIdentity: Refuse or Ignore, because identities are given",
        ),
    )

    without_identity: Literal["Refuse", "Ignore"] | None = None
    """Whether peers without identity are refused too.

    Must be said where there are identities (semantics A3).
    """

    @model_validator(mode="after")
    def _says_what_of_peers_without_identity(self) -> Self:
        if self.identities is not None and self.without_identity is None:
            raise ValueError("expected withoutIdentity: Refuse or Ignore, because identities are given")
        return self


class RequireItem(_Item):
    """Refuses what lies in its scope and does not meet it, in the whole mesh."""


class Revoked(Spec):
    """An identity, a pod or a certificate that is refused (semantics I9)."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.identity), has(self.podUID), has(self.certificateSHA256)].exists_one(given, given)",
            "expected exactly one of identity, podUID and certificateSHA256",
        ),
    )

    identity: SpiffeId | None = None
    """A SPIFFE ID."""
    pod_uid: Annotated[Uid | None, Field(alias="podUID")] = None
    """A pod's uid."""
    certificate_sha256: Annotated[Sha256 | None, Field(alias="certificateSHA256")] = None
    """The SHA-256 of a leaf certificate's DER, 64 lower-case hexadecimal digits."""
    issued_before: Instant | None = None
    """Only certificates issued before this instant (RFC 3339)."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(given is not None for given in (self.identity, self.pod_uid, self.certificate_sha256)) != 1:
            raise ValueError("expected exactly one of identity, podUID and certificateSHA256")
        return self


class ExternalIdentities(Spec):
    """SPIFFE IDs that ExternalWorkloads of a namespace may declare beside their own namespace's."""

    namespace: NamespaceName
    """The namespace."""
    identities: Annotated[Items[SpiffeId], Field(min_length=1, max_length=1000)]
    """The SPIFFE IDs."""


class Outbound(Spec):
    """What workloads may do towards others."""

    plaintext: Literal["Allow", "Deny"] = "Allow"
    """Whether endpoints without a proxy may be reached in plaintext."""


class OpaServer(Spec):
    """The OPA that RegoPolicies may delegate to."""

    address: Annotated[str, Field(min_length=1, max_length=253)]
    """host:port."""
    timeout: Annotated[Duration, Field(json_schema_extra={"default": "100ms", "maxLength": 32})] = timedelta(
        milliseconds=100
    )
    """How long a request waits for the answer before it is refused."""
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many questions of one proxy may be open at once."""


class MeshDefaultsSpec(Spec):
    """What a platform team fixes for all."""

    default_access: Access = "deny"
    """The default of ports without a Server, where no annotation says otherwise."""
    max_default: Access = "all-unauthenticated"
    """The widest that any port's default without a Server can be."""
    cluster_networks: Annotated[Items[Cidr], Field(max_length=256)] = CLUSTER_NETWORKS
    """What `cluster-…` means."""
    probe_networks: Annotated[Items[Cidr], Field(max_length=256)] = ()
    """Where the kubelet's probes come from, beside what is known of each node."""
    trusted_namespace_labels: Annotated[
        Items[Annotated[str, Field(min_length=1, max_length=317)]], Field(max_length=64)
    ] = ()
    """Labels of Namespaces that a namespaceSelector may read."""
    opaque_ports: Annotated[Items[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=256)] = (
        OPAQUE_PORTS
    )
    """Ports on which nothing is read, where no Server or annotation says otherwise."""
    deny: Annotated[Items[DenyItem], Field(max_length=1000)] = ()
    """Refusals for the whole mesh."""
    require: Annotated[Items[RequireItem], Field(max_length=1000)] = ()
    """Floors for the whole mesh, which no Allow can lower."""
    revoked: Annotated[Items[Revoked], Field(max_length=10_000)] = ()
    """Identities, pods and certificates that are refused."""
    external_identities: Annotated[Items[ExternalIdentities], Field(max_length=1000)] = ()
    """SPIFFE IDs that ExternalWorkloads may declare beside their own namespace's."""
    max_table_age: Duration | None = None
    """How old a rule table may become before everything is refused (Go duration); by default for ever."""
    epoch: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Raised by hand after a cluster was restored from a backup."""
    outbound: Outbound = Outbound()
    """What workloads may do towards others."""
    opa: OpaServer | None = None
    """The OPA that RegoPolicies may delegate to."""


@dataclass(frozen=True, slots=True)
class MeshDefaults:
    """A MeshDefaults as read: every field readable, or as semantics U4 reads what can't be.

    `unreadable_fields` names the fields of `fields` (attribute names) that are not what somebody wrote.
    """

    fields: MeshDefaultsSpec = field(default_factory=MeshDefaultsSpec)
    deny: tuple[DenyItem | UnreadableItem, ...] = ()
    require: tuple[RequireItem | UnreadableItem, ...] = ()
    unreadable_fields: frozenset[str] = frozenset()
