"""A new Allow for exactly one caller and one request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from policyd.explain.authentication_edits import account_of, reference_to, single_address
from policyd.explain.situation import Candidate, Object, Situation
from policyd.model.names import POLICYD

API_VERSION = f"{POLICYD}/v1alpha1"
_KINDS = (
    (POLICYD, "AuthorizationPolicy"),
    (POLICYD, "MeshTLSAuthentication"),
    (POLICYD, "NetworkAuthentication"),
)


def new_allow(situation: Situation) -> Iterator[Candidate]:
    """Yield an AuthorizationPolicy on the request's route, Server or namespace, for its caller only."""
    namespace = situation.place.workload.namespace
    near = situation.named(situation.explanation.route) or situation.named(situation.explanation.server)
    near = near or _anything_in(situation, namespace)
    if near is None:
        return
    caller = _caller_text(situation)
    label = re.sub(r"[^a-z0-9]+", "-", f"allow-{caller}-to-{situation.place.workload.name}".lower())
    name = situation.unused_name(label, _KINDS, namespace)
    authentication, reference = _authentication(situation, name, namespace)
    spec: dict[str, Any] = {
        "targetRef": _target(situation, namespace),
        "requiredAuthenticationRefs": [reference],
    }
    when = _when(situation)
    if when:
        spec["when"] = when
    policy = _manifest("AuthorizationPolicy", name, namespace, spec)
    documents = [*authentication, policy]
    yield from situation.add_documents(
        near, documents, f"add AuthorizationPolicy {namespace}/{name} for {caller}"
    )


def _anything_in(situation: Situation, namespace: str) -> Object | None:
    """Return the first object of the namespace, of those in files if any are, to put a new one beside it."""
    objects = situation.manifests.world.objects
    keys = sorted(
        (found.document.file is None, key) for key, found in objects.items() if key.namespace == namespace
    )
    return objects[keys[0][1]] if keys else None


def _target(situation: Situation, namespace: str) -> dict[str, str]:
    for name in (situation.explanation.route, situation.explanation.server):
        found = situation.named(name)
        if found is not None:
            return {"group": found.key.group, "kind": found.key.kind, "name": found.key.name}
    return {"kind": "Namespace", "name": namespace}


def _authentication(
    situation: Situation, name: str, namespace: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return new authentications that are needed, and the reference to what the caller is known by."""
    identity = situation.identity
    if identity is None:
        networks = [{"cidr": single_address(situation.question.caller.ip)}]
        made = _manifest("NetworkAuthentication", name, namespace, {"networks": networks})
        return [made], {"group": POLICYD, "kind": "NetworkAuthentication", "name": name}
    account = account_of(identity, situation.manifests.compiler.trust_domain)
    if account is not None:
        return [], reference_to(account, namespace)
    made = _manifest("MeshTLSAuthentication", name, namespace, {"identities": [identity]})
    return [made], {"group": POLICYD, "kind": "MeshTLSAuthentication", "name": name}


def _when(situation: Situation) -> list[dict[str, Any]]:
    """Conditions that hold for this method and path only; none where the request isn't read as HTTP."""
    request = situation.explanation.request
    if request is None or not request["path"].startswith("/"):
        return []
    return [{"method": {"in": [request["method"]]}}, {"path": {"in": [request["path"]]}}]


def _manifest(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _caller_text(situation: Situation) -> str:
    identity = situation.identity
    return situation.question.caller.ip if identity is None else situation.told(identity)
