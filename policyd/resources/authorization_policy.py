"""AuthorizationPolicy: who may, or may not, reach a target; in our group and in Linkerd's."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from policyd.resources.conditions import When
from policyd.resources.references import AuthenticationRef, TargetRef
from policyd.resources.spec import Action, Cel, Instant, Items, Mode, Spec


class AuthorizationPolicySpec(Spec):
    """Grants, refuses or asks on its target (semantics A1 to A7)."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.requiredAuthenticationRefs"
            ".filter(ref, ref.kind.lowerAscii() == 'networkauthentication').size() <= 1",
            "expected at most one NetworkAuthentication in requiredAuthenticationRefs",
        ),
        Cel(
            "self.requiredAuthenticationRefs"
            ".filter(ref, ref.kind.lowerAscii() != 'networkauthentication').size() <= 1",
            "expected at most one MeshTLSAuthentication or ServiceAccount in requiredAuthenticationRefs",
        ),
        Cel(
            "!has(self.validUntil) || self.action == 'Allow'",
            "validUntil: expected it on Allow only",
            "'validUntil on action ' + self.action + ': expected it on Allow only'",
        ),
    )
    ours_only: ClassVar[frozenset[str]] = frozenset({"action", "mode", "when", "validUntil"})

    target_ref: TargetRef
    """What the policy is about: a Server, a route or the policy's own namespace."""
    required_authentication_refs: Annotated[Items[AuthenticationRef], Field(max_length=2)]
    """What a client must meet, all of it; `[]` asks nobody for anything."""
    action: Action = "Allow"
    """Allow grants what matches, Deny refuses it, Require refuses what does not meet the authentications."""
    mode: Mode = "Enforce"
    """Audit records what the policy would do and never changes a verdict."""
    when: When = ()
    """The requests that the policy is about; all items must hold, none means every request."""
    valid_until: Instant | None = None
    """When the grant ends (RFC 3339); only for Allow."""

    @model_validator(mode="after")
    def _at_most_one_of_each(self) -> Self:
        kinds = [ref.type[1] for ref in self.required_authentication_refs]
        networks = kinds.count("NetworkAuthentication")
        if len(kinds) - networks > 1:
            raise ValueError(
                "expected at most one MeshTLSAuthentication or ServiceAccount in requiredAuthenticationRefs"
            )
        if networks > 1:
            raise ValueError("expected at most one NetworkAuthentication in requiredAuthenticationRefs")
        return self

    @model_validator(mode="after")
    def _only_grants_end(self) -> Self:
        if self.valid_until is not None and self.action != "Allow":
            raise ValueError(f"validUntil on action {self.action}: expected it on Allow only")
        return self
