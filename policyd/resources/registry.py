"""Which apiVersion and kind is which model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from policyd.model.names import CORE, GATEWAY, LINKERD_POLICY, LINKERD_WORKLOAD, POLICYD
from policyd.resources import cluster
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource, Unreadable
from policyd.resources.draft import Draft
from policyd.resources.egress_network import EgressNetworkSpec
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.mesh_tls_authentication import MeshTLSAuthenticationSpec
from policyd.resources.network_authentication import NetworkAuthenticationSpec
from policyd.resources.rate_limit import HTTPLocalRateLimitPolicySpec
from policyd.resources.read_mesh_defaults import read_mesh_defaults
from policyd.resources.read_routes import read_grpc_route, read_http_route
from policyd.resources.read_specs import external_workload, not_built, not_enforced, reserved, strict
from policyd.resources.read_workloads import read_node, read_pod, read_pod_owner, struct_reader
from policyd.resources.reference_grant import ReferenceGrantSpec
from policyd.resources.rego_policy import RegoPolicySpec
from policyd.resources.server import ServerSpec
from policyd.resources.server_authorization import ServerAuthorizationSpec

Reader = Callable[[Draft], Resource[Any] | Unreadable]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that we read: its versions, the first being the one we write, and how it is read."""

    group: str
    name: str
    versions: tuple[str, ...]
    read: Reader
    namespaced: bool = True


_ALPHA = ("v1alpha1",)
_LINKERD_SERVER = ("v1beta3", "v1beta2", "v1beta1", "v1alpha1")
_GATEWAY = ("v1", "v1beta1", "v1alpha2")
_NAMESPACE_READER = struct_reader(cluster.Namespace, "metadata")
_ACCOUNT_READER = struct_reader(cluster.ServiceAccount, "metadata")


def _policy_kinds() -> Iterable[Kind]:
    for group, server in ((POLICYD, _ALPHA), (LINKERD_POLICY, _LINKERD_SERVER)):
        yield Kind(group, "Server", server, strict(ServerSpec))
        yield Kind(group, "AuthorizationPolicy", _ALPHA, strict(AuthorizationPolicySpec))
        yield Kind(group, "MeshTLSAuthentication", _ALPHA, strict(MeshTLSAuthenticationSpec))
        yield Kind(group, "NetworkAuthentication", _ALPHA, strict(NetworkAuthenticationSpec))
    yield Kind(POLICYD, "MeshDefaults", _ALPHA, read_mesh_defaults, namespaced=False)
    yield Kind(POLICYD, "RegoPolicy", _ALPHA, not_built(RegoPolicySpec))
    yield Kind(POLICYD, "JWTAuthentication", _ALPHA, reserved)
    yield Kind(
        LINKERD_POLICY, "ServerAuthorization", ("v1beta1", "v1alpha1"), strict(ServerAuthorizationSpec)
    )
    yield Kind(LINKERD_POLICY, "HTTPRoute", _LINKERD_SERVER, read_http_route)
    yield Kind(LINKERD_POLICY, "HTTPLocalRateLimitPolicy", _ALPHA, not_enforced(HTTPLocalRateLimitPolicySpec))
    yield Kind(LINKERD_POLICY, "EgressNetwork", _ALPHA, not_enforced(EgressNetworkSpec))
    yield Kind(
        LINKERD_WORKLOAD, "ExternalWorkload", ("v1beta1", "v1alpha1"), external_workload(ExternalWorkloadSpec)
    )
    yield Kind(GATEWAY, "HTTPRoute", _GATEWAY, read_http_route)
    yield Kind(GATEWAY, "GRPCRoute", _GATEWAY, read_grpc_route)
    yield Kind(GATEWAY, "ReferenceGrant", _GATEWAY, strict(ReferenceGrantSpec))


def _cluster_kinds() -> Iterable[Kind]:
    yield Kind(CORE, "Pod", ("v1",), read_pod)
    yield Kind(CORE, "Namespace", ("v1",), _NAMESPACE_READER, namespaced=False)
    yield Kind(CORE, "Node", ("v1",), read_node, namespaced=False)
    yield Kind(CORE, "ServiceAccount", ("v1",), _ACCOUNT_READER)
    yield Kind(CORE, "Service", ("v1",), struct_reader(cluster.Service, "spec"))
    yield Kind("discovery.k8s.io", "EndpointSlice", ("v1",), struct_reader(cluster.EndpointSlice))
    for name in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        yield Kind("apps", name, ("v1",), read_pod_owner)
    for name in ("Job", "CronJob"):
        yield Kind("batch", name, ("v1",), read_pod_owner)


KINDS: dict[tuple[str, str], Kind] = {
    (kind.group, kind.name): kind for kind in (*_policy_kinds(), *_cluster_kinds())
}
"""Every kind that we read, by (group, kind)."""
