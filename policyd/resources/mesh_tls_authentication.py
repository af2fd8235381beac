"""MeshTLSAuthentication: identities, in our group and in Linkerd's."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, ValidationInfo, model_validator

from policyd.model.names import POLICYD
from policyd.resources.identities import IdentityForm
from policyd.resources.references import IdentityRef
from policyd.resources.selectors import LabelSelector
from policyd.resources.spec import Cel, Items, Spec, reading

Identities = Annotated[Items[IdentityForm], Field(max_length=10_000)]
IdentityRefs = Annotated[Items[IdentityRef], Field(max_length=1000)]


class IdentityExceptions(Spec):
    """Identities that are taken away from those listed and selected."""

    identities: Identities = ()
    """Forms of identity."""
    identity_refs: IdentityRefs = ()
    """ServiceAccounts and Namespaces."""


class MeshTLSAuthenticationSpec(Spec):
    """Identities: what is listed and selected adds up, `except` removes (semantics I4)."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.identities) || has(self.identityRefs) || has(self.namespaceSelector)",
            "expected at least one of identities, identityRefs and namespaceSelector",
        ),
    )
    ours_only: ClassVar[frozenset[str]] = frozenset({"namespaceSelector", "except"})

    identities: Annotated[Identities, Field(min_length=1)] | None = None
    """SPIFFE IDs, `spiffe://<trust domain>/ns/<namespace>/sa/*`, `spiffe://<trust domain>/*` or `*`."""
    identity_refs: Annotated[IdentityRefs, Field(min_length=1)] | None = None
    """ServiceAccounts, and Namespaces for all of their ServiceAccounts."""
    namespace_selector: LabelSelector | None = None
    """Namespaces all of whose ServiceAccounts count; only by labels that MeshDefaults trusts."""
    except_: Annotated[IdentityExceptions, Field(alias="except")] = IdentityExceptions()
    """Identities that don't count."""

    @model_validator(mode="after")
    def _names_somebody(self, info: ValidationInfo) -> Self:
        given = [
            self.identities is not None,
            self.identity_refs is not None,
            self.namespace_selector is not None,
        ]
        if not any(given):
            raise ValueError("expected at least one of identities, identityRefs and namespaceSelector")
        if sum(given) > 1 and reading(info).group != POLICYD:
            raise ValueError(
                f"expected one of identities and identityRefs, not both (only {POLICYD} takes both)"
            )
        return self
