"""Who may have which pod's table (CT-11)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from policyd.compile.compiler import Compiler
from policyd.compile.rows import Revocation
from policyd.distribute.callers import pod_of, refuse_revoked
from policyd.index.world import World

from .conftest import leaf

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: cart-0, namespace: shop, uid: uid-1}
spec: {serviceAccountName: cart}
---
apiVersion: v1
kind: Pod
metadata: {name: going, namespace: shop, uid: uid-2, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {serviceAccountName: cart}
---
apiVersion: v1
kind: Pod
metadata: {name: twin-a, namespace: shop, uid: uid-3}
spec: {serviceAccountName: cart}
---
apiVersion: v1
kind: Pod
metadata: {name: twin-b, namespace: shop, uid: uid-3}
spec: {serviceAccountName: cart}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: vm, namespace: shop}
spec:
  meshTLS: {identity: "spiffe://test/ns/shop/sa/vm", serverName: vm.shop}
"""


def test_a_pod_is_found_by_its_uid(world: Callable[[str], World]) -> None:
    assert pod_of(Compiler(world(PODS), "test"), leaf()).key.name == "cart-0"


def test_an_external_workload_is_found_by_its_identity(world: Callable[[str], World]) -> None:
    assert pod_of(Compiler(world(PODS), "test"), leaf("shop/vm", None)).key.name == "vm"


@pytest.mark.parametrize(
    ("account", "uid", "trust_domain", "code"),
    [
        ("other/cart", "uid-1", "test", "POD_OTHER"),
        ("shop/other", "uid-1", "test", "POD_OTHER"),
        ("shop/cart", "uid-9", "test", "POD_UNKNOWN"),
        ("shop/cart", "uid-2", "test", "POD_TERMINATING"),
        ("shop/cart", "uid-3", "test", "POD_UNKNOWN"),
        ("shop/cart", None, "test", "WORKLOAD_UNKNOWN"),
        ("shop/cart", "uid-1", "other", "IDENTITY_FOREIGN"),
    ],
)
def test_others_are_refused(
    world: Callable[[str], World], account: str, uid: str | None, trust_domain: str, code: str
) -> None:
    with pytest.raises(GRPCError) as caught:
        pod_of(Compiler(world(PODS), "test"), leaf(account, uid, trust_domain))
    assert caught.value.status is Status.PERMISSION_DENIED
    assert str(caught.value.message).startswith(code)


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        (Revocation(identity="spiffe://test/ns/shop/sa/cart"), True),
        (Revocation(identity="spiffe://test/ns/shop/sa/other"), False),
        (Revocation(pod_uid="uid-1"), True),
        (Revocation(certificate_sha256="ab" * 32), True),
        (Revocation(certificate_sha256="cd" * 32), False),
        (Revocation(pod_uid="uid-1", issued_before_millis=1), False),
        (Revocation(pod_uid="uid-1", issued_before_millis=2**53), True),
    ],
)
def test_revoked(row: Revocation, refused: bool) -> None:
    if refused:
        with pytest.raises(GRPCError, match="REVOKED"):
            refuse_revoked([row], leaf())
    else:
        refuse_revoked([row], leaf())


@pytest.mark.promise("P-8")
def test_who_may_not_declare_an_identity_keeps_nobody_from_its_table(world: Callable[[str], World]) -> None:
    thief = PODS.rpartition("---")[2].replace("namespace: shop", "namespace: other")
    compiler = Compiler(world(f"{PODS}---{thief}"), "test")
    assert pod_of(compiler, leaf("shop/vm", None)).key.namespace == "shop"
