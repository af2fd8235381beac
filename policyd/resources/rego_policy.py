"""RegoPolicy: a Rego module attached to a target.

Until Rego is built each is an unreadable Deny (semantics U1).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from policyd.resources.references import TargetRef
from policyd.resources.spec import Cel, Mode, ObjectName, Spec


class ConfigMapKey(Spec):
    """A key of a ConfigMap of the policy's namespace."""

    name: ObjectName
    """The ConfigMap."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The key that holds the module."""


class OpaDecision(Spec):
    """A decision that OPA is asked for."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """The path of the decision, as in `envoy/authz/allow`."""


class RegoPolicySpec(Spec):
    """A Rego module, from one of three places."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.module), has(self.configMapRef), has(self.opa)].exists_one(given, given)",
            "expected exactly one of module, configMapRef and opa",
        ),
    )

    target_ref: TargetRef
    """What the policy is about: a Server, a route or the policy's own namespace."""
    mode: Mode = "Enforce"
    """Audit records what the policy would do and never changes a verdict."""
    module: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None
    """The module's text."""
    config_map_ref: ConfigMapKey | None = None
    """Where the module's text is kept."""
    opa: OpaDecision | None = None
    """The decision of an OPA, asked for each request."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = (self.module, self.config_map_ref, self.opa)
        if sum(place is not None for place in given) != 1:
            raise ValueError("expected exactly one of module, configMapRef and opa")
        return self
