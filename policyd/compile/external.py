"""Which ExternalWorkloads may have a table: those that declare an identity of their own (semantics W6)."""

from __future__ import annotations

from collections import defaultdict

from policyd.compile.findings import about
from policyd.index.workloads import EXTERNAL
from policyd.index.world import Object, World
from policyd.model.finding import Finding
from policyd.model.names import WorkloadName
from policyd.resources.base import Resource
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.identities import account_of
from policyd.resources.mesh_defaults import MeshDefaults

_FIELD = "spec.meshTLS.identity"


def refused_externals(world: World, defaults: MeshDefaults, trust_domain: str) -> dict[WorkloadName, Finding]:
    """Return the ExternalWorkloads without a table, and why.

    Of several that declare one identity none has a table: whose it is can't be told. One that may not declare
    it takes nothing from one that may.
    """
    refused: dict[WorkloadName, Finding] = {}
    declared: dict[str, list[Object]] = defaultdict(list)
    allowed = {
        (each.namespace, identity)
        for each in defaults.fields.external_identities
        for identity in each.identities
    }
    for found in world.of_kind(*EXTERNAL):
        if not isinstance(found, Resource) or not isinstance(found.spec, ExternalWorkloadSpec):
            continue
        identity, namespace = found.spec.mesh_tls.identity, found.key.namespace
        account = account_of(identity)
        own = account is not None and account[:2] == (trust_domain, namespace)
        if own or (namespace, identity) in allowed:
            declared[identity].append(found)
        else:
            refused[_name(found)] = _not_its_own(found, identity, trust_domain)
    for identity, claimants in declared.items():
        for found in claimants if len(claimants) > 1 else ():
            refused[_name(found)] = _declared_twice(found, identity, claimants)
    return refused


def _name(found: Object) -> WorkloadName:
    return WorkloadName("externalworkload", found.key.namespace, found.key.name)


def _not_its_own(found: Object, identity: str, trust_domain: str) -> Finding:
    own = f"spiffe://{trust_domain}/ns/{found.key.namespace}/sa/<name>"
    message = f"{identity} is not this namespace's to declare: expected {own}; it gets no rule table"
    return about(found, "IdentityNotOwn", _FIELD, message, "or list it in MeshDefaults.externalIdentities")


def _declared_twice(found: Object, identity: str, claimants: list[Object]) -> Finding:
    others = ", ".join(each.key.text for each in claimants if each is not found)
    message = f"{identity} is also declared by {others}; none of them gets a rule table"
    return about(
        found, "IdentityDeclaredTwice", _FIELD, message, "give each ExternalWorkload its own identity"
    )
