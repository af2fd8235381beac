"""Who opened a policy stream: the peer's SVID, and the pod it stands for (design §8, CT-11).

The certificate chain was verified in the handshake; here is what it says, and whether such a pod exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from policyd.compile.compiler import Compiler
from policyd.compile.rows import Revocation
from policyd.distribute.refusals import permission_denied
from policyd.index.workloads import EXTERNAL
from policyd.resources.base import Resource
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.workload import Pod
from servicekit.leaf import Leaf


def pod_of(compiler: Compiler, leaf: Leaf) -> Resource[object]:
    """Return the pod (or ExternalWorkload) that the caller is, as the compiler's world has it now.

    Raises GRPCError PERMISSION_DENIED where there is none, it runs as somebody else, or it is being deleted.
    """
    found = known_pod_of(compiler, leaf)
    if found.meta.deletion is not None:
        raise permission_denied("POD_TERMINATING", f"the pod of uid {leaf.pod_uid} is being deleted")
    return found


def known_pod_of(compiler: Compiler, leaf: Leaf) -> Resource[object]:
    """Do the same for a pod that may be on its way out: it still has something to tell."""
    world, trust_domain = compiler.world, compiler.trust_domain
    account = leaf.identity.service_account
    if leaf.identity.trust_domain.name != trust_domain or account is None:
        raise permission_denied("IDENTITY_FOREIGN", f"{leaf.identity} is no workload of {trust_domain}")
    if leaf.pod_uid is None:
        return _external_of(compiler, leaf)
    key = world.workloads.pod_by_uid(leaf.pod_uid)
    found = None if key is None else world.objects.get(key)
    if not isinstance(found, Resource) or not isinstance(found.spec, Pod):
        raise permission_denied("POD_UNKNOWN", f"no pod has the uid {leaf.pod_uid}")
    if (found.meta.namespace, found.spec.spec.account) != account:
        raise permission_denied("POD_OTHER", f"the pod of uid {leaf.pod_uid} isn't {leaf.identity}")
    return found


def _external_of(compiler: Compiler, leaf: Leaf) -> Resource[object]:
    """Return the one ExternalWorkload that declares the identity; nobody else lacks a pod uid.

    Those that may not declare it don't count: else any namespace could keep another's from its table.
    """
    declaring = [
        found
        for found in compiler.world.of_kind(*EXTERNAL)
        if isinstance(found, Resource)
        and isinstance(found.spec, ExternalWorkloadSpec)
        and found.spec.mesh_tls.identity == str(leaf.identity)
        and compiler.world.workloads.workload_of(found.key) not in compiler.refused
    ]
    if len(declaring) != 1:
        detail = f"{len(declaring)} ExternalWorkloads may declare {leaf.identity} and do, expected one"
        raise permission_denied("WORKLOAD_UNKNOWN", detail)
    return declaring[0]


def refuse_revoked(revoked: Iterable[Revocation], leaf: Leaf) -> None:
    """Raise PERMISSION_DENIED where MeshDefaults revokes the caller (semantics I9)."""
    issued = leaf.not_before.timestamp() * 1000
    for row in revoked:
        named = (
            (bool(row.identity) and row.identity == str(leaf.identity))
            or (bool(row.pod_uid) and row.pod_uid == leaf.pod_uid)
            or (bool(row.certificate_sha256) and row.certificate_sha256 == leaf.sha256)
        )
        if named and (not row.issued_before_millis or issued < row.issued_before_millis):
            raise permission_denied("REVOKED", f"{leaf.identity} is revoked")
