"""What each component may do with the API server. No wildcards; each right has its reason beside it.

A name can't be demanded of a `create` by POST, whose URL has none; it can of one by server-side apply.

Rights within the control plane's namespace are Roles. Cluster-wide are only reads of what policies are about,
and the writes that can't be narrower.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from identity.cluster.cluster_bundle import NAME as CLUSTER_BUNDLE
from identity.cluster.cluster_bundle import SIGNER
from policyd.audit_api.names import API_SERVICE
from policyd.install.kinds import EXTERNAL, LINKERD, OURS, ROUTES
from policyd.install.names import (
    ACKNOWLEDGED,
    AUDIT_SECRET,
    IDENTITY,
    INJECTOR,
    INJECTOR_SECRET,
    POLICYD,
    VALIDATOR,
    WEBHOOKS,
    cluster_name,
    meta,
)
from policyd.model.names import TRUST_BUNDLE

WATCH = ("list", "watch")
LEASES = "coordination.k8s.io"


@dataclass(frozen=True, slots=True)
class Grant:
    """A component's right, and why it has it. `within` the control plane's namespace, else cluster-wide."""

    component: str
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    within: bool = False

    @property
    def rule(self) -> dict[str, Any]:
        """The rule of a Role or ClusterRole."""
        rule: dict[str, Any] = {"apiGroups": [self.group], "resources": list(self.resources)}
        if self.names:
            rule["resourceNames"] = list(self.names)
        return rule | {"verbs": list(self.verbs)}


def _lease(component: str) -> Iterable[Grant]:
    """Of several replicas one leads. `create` can't be bound to a name (Kubernetes, RBAC: resourceNames)."""
    why = "of several replicas one writes: the Lease says which"
    yield Grant(component, LEASES, ("leases",), ("create",), why, within=True)
    verbs = ("get", "update", "patch")
    yield Grant(component, LEASES, ("leases",), verbs, why, names=(cluster_name(component),), within=True)


GRANTS = (
    Grant(
        IDENTITY,
        "authentication.k8s.io",
        ("tokenreviews",),
        ("create",),
        "a first certificate needs the API server's word that the token is good and its pod is there",
    ),
    Grant(
        IDENTITY,
        "",
        ("pods", "serviceaccounts"),
        WATCH,
        "no certificate for a pod or account that is gone or going",
    ),
    Grant(
        IDENTITY,
        "policyd.dev",
        ("meshdefaults",),
        WATCH,
        "no certificate for what MeshDefaults revokes",
    ),
    Grant(IDENTITY, "", ("namespaces",), WATCH, "each namespace gets the trust bundle"),
    Grant(
        IDENTITY,
        "",
        ("configmaps",),
        (*WATCH, "create", "patch"),
        "the trust bundle of each namespace, made and renewed; applied, so that `create` has a name",
        names=(TRUST_BUNDLE,),
    ),
    Grant(
        IDENTITY,
        "certificates.k8s.io",
        ("clustertrustbundles",),
        ("get", "create", "patch"),
        "the same where the API serves ClusterTrustBundles",
        names=(CLUSTER_BUNDLE,),
    ),
    Grant(
        IDENTITY,
        "certificates.k8s.io",
        ("signers",),
        ("attest",),
        "the API asks whether a bundle's writer may speak for its signer",
        names=(SIGNER,),
    ),
    Grant(POLICYD, "policyd.dev", OURS, WATCH, "policies are compiled"),
    Grant(POLICYD, "policy.linkerd.io", LINKERD, WATCH, "so are Linkerd's"),
    Grant(POLICYD, "workload.linkerd.io", EXTERNAL, WATCH, "workloads outside the cluster"),
    Grant(
        POLICYD,
        "gateway.networking.k8s.io",
        ROUTES,
        WATCH,
        "routes that policies attach to",
    ),
    Grant(
        POLICYD,
        "",
        ("namespaces", "nodes", "pods", "serviceaccounts", "services"),
        WATCH,
        "which workloads there are, under whose account, and at which addresses",
    ),
    Grant(
        POLICYD,
        "apps",
        ("daemonsets", "deployments", "replicasets", "statefulsets"),
        WATCH,
        "a workload is the top owner of its pods",
    ),
    Grant(POLICYD, "batch", ("cronjobs", "jobs"), WATCH, "so are jobs"),
    Grant(POLICYD, "discovery.k8s.io", ("endpointslices",), WATCH, "where Services lead"),
    Grant(
        POLICYD,
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        WATCH,
        "a kind whose CRD appears is watched at once",
    ),
    Grant(
        POLICYD,
        "policyd.dev",
        tuple(f"{plural}/status" for plural in OURS),
        ("patch",),
        "conditions: what a policy does, and why not",
    ),
    Grant(
        POLICYD,
        "gateway.networking.k8s.io",
        ("grpcroutes/status", "httproutes/status"),
        ("patch",),
        "the same for routes: an entry of ours in `status.parents`",
    ),
    Grant(
        POLICYD,
        "events.k8s.io",
        ("events",),
        ("create", "patch"),
        "denials and faults beside the workload they concern; Linkerd's kinds have no status",
    ),
    Grant(
        POLICYD,
        "authorization.k8s.io",
        ("subjectaccessreviews",),
        ("create",),
        "who may read which denials is the API server's to say",
    ),
    Grant(
        POLICYD,
        "apiregistration.k8s.io",
        ("apiservices",),
        (*WATCH, "patch"),
        "the CA of the audit API's serving certificate, kept when somebody overwrites it",
        names=(API_SERVICE,),
    ),
    Grant(
        POLICYD,
        "",
        ("secrets",),
        (*WATCH, "patch"),
        "that certificate, shared by its replicas; install makes the Secret",
        names=(AUDIT_SECRET,),
        within=True,
    ),
    *_lease(POLICYD),
    Grant(
        POLICYD,
        "",
        ("configmaps",),
        (*WATCH, "patch"),
        "what proxies of other replicas acknowledged; install makes the ConfigMap, so it needs no `create`",
        names=(ACKNOWLEDGED,),
        within=True,
    ),
    Grant(INJECTOR, "", ("namespaces",), WATCH, "labels and annotations say what is injected"),
    Grant(
        INJECTOR, "", ("pods",), WATCH, "pods of enrolled namespaces that have no working proxy are told of"
    ),
    Grant(
        INJECTOR,
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations",),
        (*WATCH, "patch"),
        "the CA of its serving certificate, kept when somebody overwrites it",
        names=(WEBHOOKS,),
    ),
    Grant(
        INJECTOR,
        "admissionregistration.k8s.io",
        ("validatingwebhookconfigurations",),
        (*WATCH, "patch"),
        "the same",
        names=(VALIDATOR,),
    ),
    Grant(
        INJECTOR,
        "",
        ("secrets",),
        (*WATCH, "patch"),
        "its serving certificate, shared by its replicas; install makes the Secret, so it needs no `create`",
        names=(INJECTOR_SECRET,),
        within=True,
    ),
)


def roles(component: str, namespace: str) -> list[dict[str, Any]]:
    """Return a component's roles and their bindings to its ServiceAccount."""
    grants = [grant for grant in GRANTS if grant.component == component]
    cluster = [grant for grant in grants if not grant.within]
    within = [grant for grant in grants if grant.within]
    name = cluster_name(component)
    made = [
        _role("ClusterRole", meta(name, component), cluster),
        _binding("ClusterRoleBinding", meta(name, component), component, namespace),
    ]
    if within:
        made += [
            _role("Role", meta(component, component, namespace), within),
            _binding("RoleBinding", meta(component, component, namespace), component, namespace),
        ]
    return made


def _role(kind: str, metadata: dict[str, Any], grants: Iterable[Grant]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "rules": [grant.rule for grant in grants],
    }


def _binding(kind: str, metadata: dict[str, Any], component: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": kind.removesuffix("Binding"),
            "name": metadata["name"],
        },
        "subjects": [{"kind": "ServiceAccount", "name": component, "namespace": namespace}],
    }


def table() -> str:
    """Return the rights as a table in Markdown, which docs/reference/install.md has."""
    rows = ["| component | where | may | of | because |", "|---|---|---|---|---|"]
    for grant in GRANTS:
        things = (f"{each}.{grant.group}" if grant.group else each for each in grant.resources)
        named = f" named {', '.join(f'`{name}`' for name in grant.names)}" if grant.names else ""
        what = ", ".join(f"`{each}`" for each in things) + named
        where = "its namespace" if grant.within else "cluster"
        rows.append(f"| {grant.component} | {where} | {', '.join(grant.verbs)} | {what} | {grant.why} |")
    return "\n".join(rows) + "\n"
