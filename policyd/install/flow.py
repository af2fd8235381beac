"""API priority and fairness: what identity asks mustn't wait behind everybody's requests."""

from __future__ import annotations

from typing import Any

from policyd.install.names import IDENTITY, cluster_name, meta

SHARES = 20
"""Of the API server's seats: all workloads have 100 by default, leader elections 10 (KEP-1040)."""
QUEUES = 16
HAND_SIZE = 4
QUEUE_LENGTH = 50
PRECEDENCE = 900
"""Before `service-accounts` (9000), after `system-leader-election` (100) and its like."""


def flow(namespace: str) -> list[dict[str, Any]]:
    """Return the level and what goes there: identity's reviews and Leases."""
    name = cluster_name(IDENTITY)
    return [_level(name), _schema(name, namespace)]


def _level(name: str) -> dict[str, Any]:
    queuing = {"queues": QUEUES, "handSize": HAND_SIZE, "queueLengthLimit": QUEUE_LENGTH}
    limited = {"nominalConcurrencyShares": SHARES, "limitResponse": {"type": "Queue", "queuing": queuing}}
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": meta(name, IDENTITY),
        "spec": {"type": "Limited", "limited": limited},
    }


def _schema(name: str, namespace: str) -> dict[str, Any]:
    account = {"name": IDENTITY, "namespace": namespace}
    rule = {
        "subjects": [{"kind": "ServiceAccount", "serviceAccount": account}],
        "resourceRules": [
            {
                "apiGroups": ["authentication.k8s.io"],
                "resources": ["tokenreviews"],
                "verbs": ["create"],
                "clusterScope": True,
            },
        ],
    }
    spec = {
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": PRECEDENCE,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [rule],
    }
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": meta(name, IDENTITY),
        "spec": spec,
    }
