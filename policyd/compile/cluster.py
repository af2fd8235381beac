"""The cluster's part of every rule table: what MeshDefaults fixes for all (semantics W5, W6, A3, I9, U4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from policyd.compile.authentications import forms, identity_set
from policyd.compile.authorizations import millis
from policyd.compile.conditions import conditions_of
from policyd.compile.identities import ANY, everyone_of
from policyd.compile.mesh import MESH_DEFAULTS, MOST_CONDITIONAL
from policyd.compile.networks import network_set
from policyd.compile.pools import PoolBuilder
from policyd.compile.rows import (
    READER_VERSION,
    ClusterPart,
    Effect,
    Level,
    Revocation,
    Rule,
    Who,
)
from policyd.resources.mesh_defaults import DenyItem, MeshDefaults, RequireItem, Revoked, UnreadableItem

_LISTS = {"deny": Effect.DENY, "require": Effect.REQUIRE}


def compile_cluster(defaults: MeshDefaults, trust_domain: str) -> ClusterPart:
    """Return the part that all workloads share."""
    fields = defaults.fields
    pools = PoolBuilder()
    rules = list(_Items(pools, trust_domain).rules(defaults))
    return ClusterPart(
        READER_VERSION,
        trust_domain,
        pools.pools(),
        rules,
        [_revocation(one) for one in dict.fromkeys(fields.revoked)],
        sorted(set(fields.cluster_networks)),
        sorted(set(fields.probe_networks)),
        _seconds(fields.max_table_age),
        fields.epoch,
    )


@dataclass(slots=True)
class _Items:
    """Makes rules of the items of `deny` and `require`; counts those with a `when` (semantics V8)."""

    pools: PoolBuilder
    trust_domain: str
    conditional: int = 0

    def rules(self, defaults: MeshDefaults) -> Iterator[Rule]:
        for kind, items in (("deny", defaults.deny), ("require", defaults.require)):
            for index, item in enumerate(items):
                yield self._rule(kind, index, item)

    def _rule(self, kind: str, index: int, item: DenyItem | RequireItem | UnreadableItem) -> Rule:
        if isinstance(item, UnreadableItem):
            return _refuse(kind, item.index, item.name, item.mode == "Audit")
        if item.when and item.mode == "Enforce":
            self.conditional += 1
            if self.conditional > MOST_CONDITIONAL:
                return _refuse(kind, index, item.name, audit=False)
        deny = isinstance(item, DenyItem)
        own = everyone_of(self.trust_domain)
        identities = None
        if item.identities is not None:
            identities = identity_set(forms(item.identities, ANY if deny else own), forms(item.except_, own))
        return Rule(
            _LISTS[kind],
            Level.CLUSTER,
            f"{MESH_DEFAULTS.text}#{kind}/{item.name}",
            MESH_DEFAULTS.at(f"spec.{kind}[{index}]"),
            item.mode == "Audit",
            identity=Who.ANYONE if identities is None else Who.SET,
            identities=0 if identities is None else self.pools.identities(identities),
            anonymous_too=isinstance(item, DenyItem) and item.without_identity == "Refuse",
            network=Who.ANYONE if item.networks is None else Who.SET,
            networks=0 if item.networks is None else self.pools.networks(network_set(item.networks)),
            conditions=self.pools.conditions(conditions_of(item.when)),
        )


def _refuse(kind: str, index: int | None, name: str | None, audit: bool) -> Rule:
    """Return the row of an item that can't be read, by its name or its place (semantics D2, U4)."""
    place = kind if index is None else f"{kind}[{index}]"
    called = f"{kind}/{name}" if name else place
    return Rule(
        Effect.REFUSE,
        Level.CLUSTER,
        f"{MESH_DEFAULTS.text}#{called}",
        MESH_DEFAULTS.at(f"spec.{place}"),
        audit,
    )


def _revocation(revoked: Revoked) -> Revocation:
    before = 0 if revoked.issued_before is None else millis(revoked.issued_before)
    return Revocation(revoked.identity or "", revoked.pod_uid or "", revoked.certificate_sha256 or "", before)


def _seconds(age: timedelta | None) -> int:
    """Whole seconds, at least 1: 0 would mean that a table never becomes stale."""
    return 0 if age is None else max(1, int(age.total_seconds()))
