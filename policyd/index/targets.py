"""What policies are about."""

from __future__ import annotations

from policyd.model.names import CORE, ObjectKey
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource, Unreadable
from policyd.resources.references import TargetRef
from policyd.resources.rego_policy import RegoPolicySpec

POLICY_KINDS = frozenset({"AuthorizationPolicy", "RegoPolicy"})
"""Kinds with a targetRef that decide."""


def namespace_key(namespace: str) -> ObjectKey:
    return ObjectKey(CORE, "Namespace", "", namespace)


def target_of(policy: Resource[object] | Unreadable) -> ObjectKey:
    """Return what the policy is about; its own namespace where its target can't be read (semantics U2)."""
    if isinstance(policy, Unreadable):
        target = policy.salvage.get("target_ref")
        found = target if isinstance(target, TargetRef) else None
    elif isinstance(policy.spec, AuthorizationPolicySpec | RegoPolicySpec):
        found = policy.spec.target_ref
    else:
        raise TypeError(f"{policy.key.text} has no target")
    return namespace_key(policy.key.namespace) if found is None else found.key(policy.key.namespace)
