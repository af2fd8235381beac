"""What a cluster has of others, whose kinds we read: Gateway API and Linkerd. Only that they are served."""

from __future__ import annotations

from tests.api.crds import install, lax
from tests.api.rig import ApiServer

ROUTES = ("HTTPRoute", "httproutes"), ("GRPCRoute", "grpcroutes"), ("ReferenceGrant", "referencegrants")
LINKERD = (
    (("v1beta3", "v1beta2", "v1beta1"), "Server", "servers"),
    (("v1beta1",), "ServerAuthorization", "serverauthorizations"),
    (("v1alpha1",), "AuthorizationPolicy", "authorizationpolicies"),
    (("v1alpha1",), "MeshTLSAuthentication", "meshtlsauthentications"),
    (("v1alpha1",), "NetworkAuthentication", "networkauthentications"),
    (("v1beta3",), "HTTPRoute", "httproutes"),
)
"""Versions, the stored one first; kind; plural."""


def install_others(api: ApiServer) -> None:
    """Create their CRDs and wait until they are served."""
    crds = [lax("gateway.networking.k8s.io", "v1", kind, plural) for kind, plural in ROUTES]
    for (first, *more), kind, plural in LINKERD:
        crds.append(lax("policy.linkerd.io", first, kind, plural, more=more))
    install(api, *crds)
