"""The kinds that policies are written in, by group, as the API names them: plural, lower case."""

from __future__ import annotations

from policyd.model.names import GATEWAY, LINKERD_POLICY, LINKERD_WORKLOAD, POLICYD

OURS = (
    "authorizationpolicies",
    "meshdefaults",
    "meshtlsauthentications",
    "networkauthentications",
    "regopolicies",
    "servers",
)
LINKERD = (
    "authorizationpolicies",
    "egressnetworks",
    "httplocalratelimitpolicies",
    "httproutes",
    "meshtlsauthentications",
    "networkauthentications",
    "serverauthorizations",
    "servers",
)
EXTERNAL = ("externalworkloads",)
ROUTES = ("grpcroutes", "httproutes", "referencegrants")
POLICY_KINDS = ((POLICYD, OURS), (LINKERD_POLICY, LINKERD), (LINKERD_WORKLOAD, EXTERNAL), (GATEWAY, ROUTES))
