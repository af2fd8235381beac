"""`python noisy.py FILE`: a tenant that changes its policies a hundred times a second, until it is ended."""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

NAMESPACE = "noisy"
EDIT_SECONDS = 0.01
PODS = 20
POLICIES = 20


def objects(turn: int) -> list[dict[str, Any]]:
    """Return pods of as many shapes, a Server of all of them, and policies that are others each time."""
    server = {"podSelector": {}, "port": 8080, "proxyProtocol": "HTTP/1"}
    target = {"group": "policyd.dev", "kind": "Server", "name": "all"}
    asked = [{"kind": "ServiceAccount", "name": f"account-{turn}"}]
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"p{number}", "namespace": NAMESPACE, "labels": {"pod": str(number)}},
            "spec": {"containers": [{"name": "app"}]},
        }
        for number in range(PODS)
    ]
    policies = [
        _ours("AuthorizationPolicy", f"p{number}", {"targetRef": target, "requiredAuthenticationRefs": asked})
        for number in range(POLICIES)
    ]
    return [*pods, _ours("Server", "all", server), *policies]


def _ours(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "policyd.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def main(file: Path) -> None:
    beside = file.with_suffix(".new")
    for turn in itertools.count():
        due = time.monotonic() + EDIT_SECONDS
        beside.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(turn)}))
        beside.replace(file)
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
