"""Who gets no certificate because of `MeshDefaults.revoked`, and what if nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from identity.cluster.revoked import DEFAULT, MeshDefaults, Revocations
from identity.refusal import Code, Refused
from kubeapi.client import Client
from kubeapi.errors import ApiError
from kubeapi.told import Applied, Gone, Told, Undecodable
from servicekit.leaf import Leaf
from tests.unit.identity.conftest import WEB
from tests.unit.kubeapi.small_server import Server

NOW = datetime.now(UTC)
SHOWN = Leaf(WEB, "pod-uid", NOW - timedelta(hours=2), NOW + timedelta(hours=22), "ab" * 32)


@pytest.fixture
def revocations(server: Server) -> Revocations:
    found = Revocations(Client(server.access(), "test"))
    found._state.reflector.listed.set()
    return found


def put(revocations: Revocations, *items: dict[str, Any]) -> None:
    defaults = msgspec.convert({"spec": {"revoked": items}}, MeshDefaults)
    revocations._state.tell(Told(1, (Applied(DEFAULT, "uid", defaults),)))


def at(**before: float) -> str:
    return (NOW - timedelta(**before)).isoformat()


CASES: dict[str, tuple[dict[str, Any], bool, bool]] = {
    # item: whether it cuts a first certificate, and a renewal
    "identity": ({"identity": str(WEB)}, True, True),
    "another identity": ({"identity": "spiffe://cluster.local/ns/emojivoto/sa/voting"}, False, False),
    "pod": ({"podUID": "pod-uid"}, True, True),
    "another pod": ({"podUID": "pod-uid-2"}, False, False),
    "certificate": ({"certificateSHA256": "ab" * 32}, False, True),
    "another certificate": ({"certificateSHA256": "cd" * 32}, False, False),
    "issued before an hour ago": ({"identity": str(WEB), "issuedBefore": at(hours=1)}, False, True),
    "issued before three hours ago": ({"identity": str(WEB), "issuedBefore": at(hours=3)}, False, False),
    "issued before what is backdated": ({"identity": str(WEB), "issuedBefore": at(minutes=1)}, True, True),
}


@pytest.mark.parametrize("what", CASES)
def test_i9_what_is_revoked_gets_nothing(what: str, revocations: Revocations) -> None:
    item, first, renewal = CASES[what]
    put(revocations, {"podUID": "somebody-else"}, item)
    assert revocations(WEB, "pod-uid", None) is first
    assert revocations(WEB, "pod-uid", SHOWN) is renewal
    revocations._state.tell(Told(2, (Gone(DEFAULT, "uid"),)))
    assert not revocations(WEB, "pod-uid", SHOWN)


def test_where_nobody_knows_who_is_revoked_nothing_is_issued(revocations: Revocations) -> None:
    revocations._state.tell(Told(1, (Applied(DEFAULT, "uid", Undecodable(b"", "")),)))
    with pytest.raises(Refused) as refused:
        revocations(WEB, "pod-uid", None)
    assert refused.value.code is Code.CLUSTER_UNKNOWN
    put(revocations)
    revocations._state.reflector.listed.clear()
    with pytest.raises(Refused):
        revocations(WEB, "pod-uid", None)
    revocations._state.reflector.problem = ApiError(403, "Forbidden", "no")
    with pytest.raises(Refused, match="no"):
        revocations(WEB, "pod-uid", None)


def test_where_the_kind_is_not_served_nobody_is_revoked(revocations: Revocations) -> None:
    revocations._state.reflector.listed.clear()
    revocations._state.reflector.problem = ApiError(404, "NotFound", "no such kind")
    assert not revocations(WEB, "pod-uid", None)
