"""What one policy means apart from any workload: its action, whom it names, when (semantics A, I, U2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from policyd.compile.authentications import Authenticator, Problem, forms, identity_set
from policyd.compile.conditions import conditions_of
from policyd.compile.findings import about
from policyd.compile.identities import account_form, everyone_of
from policyd.compile.mesh import Mesh
from policyd.compile.networks import network_set, plain_set
from policyd.compile.rows import Condition, Effect, IdentitySet, Level, NetworkSet
from policyd.index.ages import Age, age_of
from policyd.index.targets import target_of
from policyd.index.view import View
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource, Unreadable
from policyd.resources.server_authorization import Client, ServerAuthorizationSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EFFECTS = {"Allow": Effect.ALLOW, "Deny": Effect.DENY, "Require": Effect.REQUIRE}
_LEVELS = {
    "Server": Level.SERVER,
    "HTTPRoute": Level.ROUTE,
    "GRPCRoute": Level.ROUTE,
    "Namespace": Level.NAMESPACE,
}


@dataclass(frozen=True, slots=True)
class Authorization:
    """A policy's meaning.

    `action` is what was written; `effect` is REFUSE where a Deny or Require can't be read. `field` is the
    place in the object that decides. None in `identities` or `networks`: not asked.
    """

    key: ObjectKey
    age: Age
    level: Level
    action: Effect
    effect: Effect
    field: str = "spec"
    audit: bool = False
    identities: IdentitySet | None = None
    anonymous_too: bool = False
    networks: NetworkSet | None = None
    conditions: tuple[Condition, ...] = ()
    valid_until_millis: int = 0

    def refused(self) -> Authorization | None:
        """Return what is left of the policy where something makes it unreadable; of an Allow nothing (U2)."""
        if self.action is Effect.ALLOW:
            return None
        return replace(
            self,
            effect=Effect.REFUSE,
            identities=None,
            anonymous_too=False,
            networks=None,
            conditions=(),
            valid_until_millis=0,
        )


def refusal(found: Resource[object] | Unreadable, level: Level) -> Authorization:
    """Return the `refuse` row of a Server or route that can't be read (semantics U3, U5)."""
    errors = [finding for finding in found.findings if finding.severity == "error"]
    place = (errors[0].field if errors else "") or "spec"
    return Authorization(found.key, age_of(found), level, Effect.DENY, Effect.REFUSE, field=place)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A policy's Authorization, None where it grants nothing at all, and what is to be said of it."""

    authorization: Authorization | None
    findings: tuple[Finding, ...] = ()


def meaning_of(found: Resource[object] | Unreadable, view: View, mesh: Mesh) -> Meaning:
    """Return what an AuthorizationPolicy, ServerAuthorization or RegoPolicy means."""
    if isinstance(found, Unreadable):
        return Meaning(_salvaged(found))
    if isinstance(found.spec, AuthorizationPolicySpec):
        return _policy(found, found.spec, view, mesh)
    if isinstance(found.spec, ServerAuthorizationSpec):
        return Meaning(_server_authorization(found, found.spec.client, mesh))
    # What can't be told apart any further (until Rego is built, a RegoPolicy) is an unreadable Deny (U1).
    return Meaning(Authorization(found.key, age_of(found), _level(found), Effect.DENY, Effect.REFUSE))


def _policy(found: Resource[object], spec: AuthorizationPolicySpec, view: View, mesh: Mesh) -> Meaning:
    effect = _EFFECTS[spec.action]
    namespace = found.key.namespace
    asked = Authenticator(view, mesh, namespace, deny=effect is Effect.DENY).ask(
        spec.required_authentication_refs
    )
    findings = tuple(_finding(found, problem) for problem in asked.problems)
    authorization = Authorization(
        found.key,
        age_of(found),
        _level(found),
        effect,
        effect,
        audit=spec.mode == "Audit",
        identities=asked.identities,
        anonymous_too=effect is Effect.DENY and asked.identities is not None,
        networks=asked.networks,
        conditions=conditions_of(spec.when),
        valid_until_millis=0 if spec.valid_until is None else millis(spec.valid_until),
    )
    if asked.problems and effect is not Effect.ALLOW:
        refused = replace(authorization, field=asked.problems[0].field).refused()
        return Meaning(refused, findings)
    return Meaning(authorization, findings)


def _server_authorization(found: Resource[object], client: Client, mesh: Mesh) -> Authorization:
    networks = plain_set(mesh.cluster_networks) if client.networks is None else network_set(client.networks)
    return Authorization(
        found.key,
        age_of(found),
        Level.SERVER,
        Effect.ALLOW,
        Effect.ALLOW,
        identities=_client_identities(found.key.namespace, client, mesh),
        networks=networks,
    )


def _client_identities(namespace: str, client: Client, mesh: Mesh) -> IdentitySet | None:
    if client.mesh_tls is None:
        return None
    own = everyone_of(mesh.trust_domain)
    if client.mesh_tls.unauthenticated_tls:
        return identity_set([own])
    accounts = [
        account_form(mesh.trust_domain, account.namespace or namespace, account.name)
        for account in client.mesh_tls.service_accounts or ()
    ]
    return identity_set([*forms(client.mesh_tls.identities or (), own), *accounts])


def _salvaged(found: Unreadable) -> Authorization | None:
    """Return what an unreadable policy refuses (U2): without a readable action it counts as Deny."""
    if found.key.kind == "ServerAuthorization":
        return None
    action = found.salvage.get("action") if found.key.kind == "AuthorizationPolicy" else "Deny"
    written = _EFFECTS.get(str(action), Effect.DENY)
    field = found.problems[0].field if found.problems else ""
    return Authorization(
        found.key,
        age_of(found),
        _level(found),
        written,
        Effect.REFUSE,
        field=field or "spec",
        audit=found.salvage.get("mode") == "Audit",
    ).refused()


def _level(found: Resource[object] | Unreadable) -> Level:
    return _LEVELS[target_of(found).kind]


def millis(instant: datetime) -> int:
    """Return milliseconds since the Unix epoch, rounded down; at least 1: 0 is `never` in a table."""
    return max(1, (instant - _EPOCH) // _MILLISECOND)


def _finding(found: Resource[object], problem: Problem) -> Finding:
    return about(found, problem.code, problem.field, problem.message, problem.advice)
