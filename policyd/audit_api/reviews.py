"""Whether a caller may do something, as the API server says: a SubjectAccessReview, believed for a moment."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from policyd.audit_api.front_proxy import Caller
from policyd.audit_api.refusal import Refusal

BELIEVED_SECONDS: Final = 10.0
"""As extension API servers do by default (k8s.io/apiserver, DelegatingAuthorizationOptions)."""
MOST_BELIEVED: Final = 4096
_PATH = ResourcePath("authorization.k8s.io", "v1", "subjectaccessreviews")


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody wants to do. `namespace` "" for what has none, and for all namespaces."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    version: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """The `resourceAttributes` of a review."""
        given = {field: getattr(self, field) for field in self.__slots__}
        return {field: value for field, value in given.items() if value}

    @property
    def text(self) -> str:
        """Return it as the API server says such things."""
        part = f"/{self.subresource}" if self.subresource else ""
        where = f' in the namespace "{self.namespace}"' if self.namespace else " at the cluster scope"
        return f'{self.verb} resource "{self.resource}{part}" in API group "{self.group}"{where}'


class _Status(msgspec.Struct):
    allowed: bool = False
    denied: bool = False


class _Review(msgspec.Struct):
    status: _Status | None = None


class Reviews:
    """Asks, and remembers answers for a moment: a right that was taken away counts that long at most."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._believed: OrderedDict[tuple[Caller, Deed], tuple[float, bool]] = OrderedDict()

    async def allowed(self, caller: Caller, deed: Deed) -> bool:
        """Whether the caller may. Raises Refusal (503) where that can't be known: it isn't yes then."""
        found = self._believed.get((caller, deed))
        if found is not None and self._clock() < found[0]:
            return found[1]
        try:
            answer = (await self._client.create(_PATH, _review(caller, deed))).into(_Review)
        except (ApiError, AccessError) as error:
            raise Refusal(503, f"the API server can't be asked who may do that: {error}", 1) from error
        status = answer.status or _Status()
        allowed = status.allowed and not status.denied
        self._believed[caller, deed] = (self._clock() + BELIEVED_SECONDS, allowed)
        while len(self._believed) > MOST_BELIEVED:
            self._believed.popitem(last=False)
        return allowed

    async def require(self, caller: Caller, deed: Deed) -> None:
        """Raise Refusal (403) unless the caller may."""
        if not await self.allowed(caller, deed):
            raise Refusal(403, f'denials are forbidden: User "{caller.user}" cannot {deed.text}')


def _review(caller: Caller, deed: Deed) -> dict[str, Any]:
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": caller.user,
            "uid": caller.uid,
            "groups": list(caller.groups),
            "extra": {key: list(values) for key, values in caller.extra},
            "resourceAttributes": deed.attributes,
        },
    }
