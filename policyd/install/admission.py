"""Webhook registrations. Where no pod may slip through they fail closed; a cluster comes up without us."""

from __future__ import annotations

from typing import Any

from policyd.admission.enrolment import SYSTEM_NAMESPACES
from policyd.admission.enrolment_guard import guard
from policyd.install.kinds import POLICY_KINDS
from policyd.install.names import INJECT_LABEL, INJECTOR, VALIDATOR, WEBHOOKS, meta
from policyd.install.ports import port

Object = dict[str, Any]
TIMEOUT_SECONDS = 5
"""Istio's choice; all webhooks of a request share about 30 s."""
_NAME = "kubernetes.io/metadata.name"
"""The one namespace label that nobody can give to another namespace."""


def registrations(namespace: str) -> list[Object]:
    """Return both configurations, in which the injector writes its CA, and who may end an enrolment."""
    guards = [each | {"metadata": meta(each["metadata"]["name"], INJECTOR)} for each in guard()]
    return [_mutating(namespace), _validating(namespace), *guards]


def _mutating(namespace: str) -> Object:
    """Two: a pod of a namespace with the label must have its proxy, whatever else fails; others only ask."""
    enrolled = {"key": INJECT_LABEL, "operator": "In", "values": ["enabled"]}
    elsewhere = {"key": INJECT_LABEL, "operator": "NotIn", "values": ["enabled"]}
    pods = [
        _rule("", ("v1",), ("pods",), ("CREATE",)),
        _rule("", ("v1",), ("pods/ephemeralcontainers",), ("UPDATE",)),
    ]
    reinvoked = {"reinvocationPolicy": "IfNeeded"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": meta(WEBHOOKS, INJECTOR),
        "webhooks": [
            _webhook("enrolled.inject.policyd.dev", "/inject/enrolled", namespace)
            | _where(namespace, enrolled)
            | {"failurePolicy": "Fail", "rules": pods}
            | reinvoked,
            _webhook("asking.inject.policyd.dev", "/inject", namespace)
            | _where(namespace, elsewhere)
            | {"failurePolicy": "Ignore", "rules": pods}
            | reinvoked,
        ],
    }


def _validating(namespace: str) -> Object:
    """One, which fails open: what is stored unreadable refuses traffic (semantics U).

    To revoke something must never depend on a webhook that is up.
    """
    rules = [_rule(group, ("*",), plurals, ("CREATE", "UPDATE")) for group, plurals in POLICY_KINDS]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": meta(VALIDATOR, INJECTOR),
        "webhooks": [
            _webhook("validate.policyd.dev", "/validate", namespace)
            | {"failurePolicy": "Ignore", "rules": rules},
        ],
    }


def _webhook(name: str, path: str, namespace: str) -> Object:
    service = {
        "name": INJECTOR,
        "namespace": namespace,
        "path": path,
        "port": port(INJECTOR, "webhook").service,
    }
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": service},
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }


def _where(namespace: str, label: Object) -> Object:
    ours = {"key": _NAME, "operator": "NotIn", "values": [*sorted(SYSTEM_NAMESPACES), namespace]}
    return {"namespaceSelector": {"matchExpressions": [label, ours]}}


def _rule(
    group: str, versions: tuple[str, ...], plurals: tuple[str, ...], operations: tuple[str, ...]
) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": list(versions),
        "resources": list(plurals),
        "operations": list(operations),
        "scope": "*",
    }
