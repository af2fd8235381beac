"""What a pod counts, as a scrape sees it."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

ANSWER_SECONDS = 5.0


def figures(pod: dict[str, Any], port: int) -> dict[str, float]:
    """Return the values of a pod's metrics by name, summed over labels; raises OSError."""
    address = f"http://{pod['status']['podIP']}:{port}/metrics"
    with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
        text = answer.read().decode()
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return dict(found)
