"""What a table lets through or refuses that its author may not have meant (semantics A3, A7, I5, W4)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from policyd.compile.access import is_wider
from policyd.compile.authorizations import Authorization, millis
from policyd.compile.compiler import Compiler, parse_origin
from policyd.compile.findings import about
from policyd.compile.identities import everyone_of
from policyd.compile.rows import Access, Effect, Port, Rule, Who, WorkloadPart
from policyd.compile.table import CompiledTable
from policyd.index.targets import POLICY_KINDS
from policyd.index.world import Object
from policyd.model.finding import Finding
from policyd.model.names import OUR_GROUPS, WorkloadName
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource

_NARROW = "name identities or networks if that isn't meant"
_ANONYMOUS = frozenset({Access.AUDIT, Access.ALL_UNAUTHENTICATED, Access.CLUSTER_UNAUTHENTICATED})


def of_policy(compiler: Compiler, found: Object, now: datetime) -> Iterator[Finding]:
    """Yield what is to be said of a policy apart from any workload."""
    key = found.key
    if key.group not in OUR_GROUPS or key.kind not in POLICY_KINDS | {"ServerAuthorization"}:
        return
    meaning = compiler.meaning(key)
    yield from meaning.findings
    if meaning.authorization is not None and isinstance(found, Resource):
        yield from _of_policy(found, meaning.authorization, now)


def _of_policy(found: Resource[object], its: Authorization, now: datetime) -> Iterator[Finding]:
    if its.valid_until_millis and its.valid_until_millis <= millis(now):
        message = "the grant has ended"
        yield about(
            found, "GrantExpired", "spec.validUntil", message, "remove it or extend validUntil", "warning"
        )
    if its.effect is Effect.REQUIRE and its.identities is None and its.networks is None:
        message = "requires nothing: everybody meets it"
        advice = "name an authentication, or remove the policy"
        yield about(
            found, "RequireWithoutEffect", "spec.requiredAuthenticationRefs", message, advice, "warning"
        )
    if isinstance(found.spec, AuthorizationPolicySpec):
        yield from _foreign(found, found.spec)


def _foreign(found: Resource[object], spec: AuthorizationPolicySpec) -> Iterator[Finding]:
    for index, ref in enumerate(spec.required_authentication_refs):
        key = ref.key(found.key.namespace)
        if key.namespace != found.key.namespace and key.kind != "ServiceAccount":
            message = (
                f"{key.text} is another namespace's: whoever writes there decides whom this policy means"
            )
            field = f"spec.requiredAuthenticationRefs[{index}]"
            advice = "copy it into this namespace unless you trust its authors"
            yield about(found, "TrustsOtherNamespace", field, message, advice, "warning")


def of_table(compiler: Compiler, name: WorkloadName, table: CompiledTable) -> Iterator[Finding]:
    """Yield what is to be said of policies because of the other policies on a port."""
    for port in table.workload.ports:
        yield from _denies(compiler, table.workload, port)
        yield from _wide(compiler, table.workload, port, name.text)


def _rules(part: WorkloadPart, port: Port, effect: Effect) -> list[Rule]:
    rules = (part.rules[index] for index in port.rules)
    return [rule for rule in rules if rule.effect is effect and not rule.audit]


def _denies(compiler: Compiler, part: WorkloadPart, port: Port) -> Iterator[Finding]:
    """Denies that refuse peers without identity, though something lets these in (semantics A3)."""
    grants = [rule.authorization for rule in _rules(part, port, Effect.ALLOW) if rule.identity is Who.ANYONE]
    if port.access in _ANONYMOUS:
        grants.append(f"the default of {port.server or 'the port'}")
    for rule in _rules(part, port, Effect.DENY) if grants else ():
        found = _object(compiler, rule.origin)
        if rule.anonymous_too and found is not None:
            message = f"also refuses clients without identity, which {grants[0]} lets in"
            advice = "if that isn't meant, deny by network, or grant to the identities that may"
            yield about(
                found, "DenyMeetsAnonymous", "spec.requiredAuthenticationRefs", message, advice, "warning"
            )


def _wide(compiler: Compiler, part: WorkloadPart, port: Port, workload: str) -> Iterator[Finding]:
    """Grants wider than the default that this workload's other ports have (W4)."""
    server = _object(compiler, port.server_origin) if port.server else None
    bound = part.other.access if part.other.access is not Access.DENY else compiler.max_default
    if server is None or bound is Access.DENY:
        return
    if is_wider(port.access, bound):
        message = f"accessPolicy lets in more than the default {bound.name} of {workload}"
        yield about(server, "WiderThanDefault", "spec.accessPolicy", message, _NARROW, "warning")
    everyone = everyone_of(compiler.trust_domain)
    for rule in _rules(part, port, Effect.ALLOW):
        found = _object(compiler, rule.origin)
        if found is not None and is_wider(_granted(rule, part, everyone), bound):
            message = f"grants more on {port.server} than the default {bound.name} of {workload}"
            yield about(found, "WiderThanDefault", "spec", message, _NARROW, "warning")


def _granted(rule: Rule, part: WorkloadPart, everyone: str) -> Access:
    """Return the default that a grant resembles; one that names single clients resembles none."""
    somewhere = rule.network is not Who.ANYONE
    if rule.identity is Who.ANYONE:
        return Access.CLUSTER_UNAUTHENTICATED if somewhere else Access.ALL_UNAUTHENTICATED
    if everyone in part.pools.identities[rule.identities].any_of:
        return Access.CLUSTER_AUTHENTICATED if somewhere else Access.ALL_AUTHENTICATED
    return Access.DENY


def _object(compiler: Compiler, origin: str) -> Object | None:
    return compiler.world.objects.get(parse_origin(origin)[0])
