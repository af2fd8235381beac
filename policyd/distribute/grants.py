"""Which changes may wait a moment: those that can only grant more (design §8)."""

from __future__ import annotations

from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource
from policyd.resources.server_authorization import ServerAuthorizationSpec
from policyd.sources.events import Added, Batch, Event


def only_grants(batch: Batch) -> bool:
    """Whether everything in the batch adds an enforced Allow; anything else is a possible revocation."""
    return bool(batch.events) and all(map(_is_grant, batch.events))


def _is_grant(event: Event) -> bool:
    if not isinstance(event, Added) or not isinstance(event.object, Resource):
        return False
    spec = event.object.spec
    if isinstance(spec, AuthorizationPolicySpec):
        return spec.action == "Allow" and spec.mode == "Enforce"
    return isinstance(spec, ServerAuthorizationSpec)
