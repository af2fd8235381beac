"""What `MeshDefaults.revoked` says of those that ask for a certificate (semantics I9)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from identity.cluster.state import State
from identity.profile import BACKDATE
from identity.refusal import Code, Refused
from identity.spiffe_id import SpiffeId
from kubeapi.client import Client
from kubeapi.errors import ApiError
from kubeapi.path import ResourcePath
from kubeapi.told import ObjectName
from servicekit.leaf import Leaf

DEFAULT = ObjectName("", "default")
"""The one MeshDefaults there is."""


class Revoked(msgspec.Struct, frozen=True):
    """One item; exactly one of the first three, as the CRD demands."""

    identity: str | None = None
    pod_uid: str | None = msgspec.field(default=None, name="podUID")
    certificate: str | None = msgspec.field(default=None, name="certificateSHA256")
    before: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(
        default=None, name="issuedBefore"
    )


class _Spec(msgspec.Struct, frozen=True):
    revoked: tuple[Revoked, ...] = ()


class MeshDefaults(msgspec.Struct, frozen=True):
    """A MeshDefaults, as far as it is read here."""

    spec: _Spec = _Spec()


class Revocations:
    """Follows the MeshDefaults: `run` until cancelled. Called, it says whether somebody is revoked."""

    def __init__(self, client: Client) -> None:
        path = ResourcePath("policyd.dev", "v1alpha1", "meshdefaults")
        self._state = State(client, path, MeshDefaults)

    async def run(self) -> None:
        await self._state.run()

    def __call__(self, identity: SpiffeId, pod_uid: str, shown: Leaf | None) -> bool:
        """Say whether a new certificate would be refused, or the one shown is; raises Refused."""
        self._require_known()
        defaults = self._state.objects.get(DEFAULT, MeshDefaults())
        fresh = datetime.now(UTC) - BACKDATE
        begins = [fresh] if shown is None else [fresh, shown.not_before]
        sha256 = None if shown is None else shown.sha256
        return any(
            _names(item, str(identity), pod_uid, sha256)
            and (item.before is None or any(begin < item.before for begin in begins))
            for item in defaults.spec.revoked
        )

    def _require_known(self) -> None:
        reflector = self._state.reflector
        problem = reflector.problem
        if DEFAULT in self._state.unreadable:
            raise _unknown("MeshDefaults default can't be read")
        # Where the kind isn't served, nothing is revoked.
        if reflector.listed.is_set() or (isinstance(problem, ApiError) and problem.not_found):
            return
        raise _unknown(f"the API server hasn't said yet who is revoked: {problem or 'no answer so far'}")


def _names(item: Revoked, identity: str, pod_uid: str, sha256: str | None) -> bool:
    if item.certificate is not None:
        return item.certificate.lower() == sha256
    return identity == item.identity or pod_uid == item.pod_uid


def _unknown(what: str) -> Refused:
    return Refused(Code.CLUSTER_UNKNOWN, f"{what}; try again")
