"""Matches of GRPCRoutes (semantics R2)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from policyd.resources.http_route import Headers
from policyd.resources.spec import Spec

_SERVICE = r"^\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$"
_METHOD = r"^[A-Za-z_][A-Za-z_0-9]*$"


class GRPCMethodMatch(Spec):
    """A service, a method, or a method of a service."""

    type: Literal["Exact"] = "Exact"
    """How they are compared; a regular expression is not taken."""
    service: Annotated[str, Field(min_length=1, max_length=1024, pattern=_SERVICE)] | None = None
    """The service with its package; by default any."""
    method: Annotated[str, Field(min_length=1, max_length=1024, pattern=_METHOD)] | None = None
    """The method; by default any."""

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.service is None and self.method is None:
            raise ValueError("expected service, method or both")
        return self


class GRPCMatch(Spec):
    """Requests that a rule is about: all that is given must hold."""

    method: GRPCMethodMatch | None = None
    """The method; by default any."""
    headers: Headers = ()
    """Headers; of one name the first counts."""
