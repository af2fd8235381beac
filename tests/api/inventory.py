"""Everything that is in a cluster, by name: what an uninstall is compared by."""

from __future__ import annotations

import time
from typing import Any

from tests.api.rig import ApiServer, RigError

ANSWER_SECONDS = 60.0
POLL_SECONDS = 0.1


def everything(api: ApiServer) -> set[tuple[str, str, str]]:
    """Return (kind, namespace, name) of all objects of all kinds that can be listed, but for Events."""
    groups = api.request("GET", "/apis")["groups"]
    roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    found = set()
    for root in roots:
        for kind in _asked(api, root).get("resources", []):
            if "list" not in kind["verbs"] or "/" in kind["name"] or kind["name"] == "events":
                continue
            for item in _asked(api, f"{root}/{kind['name']}").get("items") or []:
                metadata = item["metadata"]
                found.add((kind["name"], metadata.get("namespace", ""), metadata["name"]))
    return found


def _asked(api: ApiServer, path: str) -> dict[str, Any]:
    """Return what is at a path: nothing where a kind went between two questions.

    Of a new CRD the API server says for a moment that it can't tell yet (429).
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            answer: dict[str, Any] = api.request("GET", path)
        except RigError as error:
            if ": 404 " in str(error) or ": 503 " in str(error):
                return {}
            if ": 429 " not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return answer
