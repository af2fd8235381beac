"""What identity counts, in Prometheus' text format."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server


class Metrics:
    """A registry of its own, so that two servers in one process don't share figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._issued = Histogram(
            "identity_certify_seconds",
            "Time from a request to its certificate, journal included",
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
        )
        self._refused = Counter(
            "identity_refusals", "Requests refused, by code", ["code"], registry=self.registry
        )
        self._expiry = Gauge(
            "identity_ca_not_after_seconds", "When a CA certificate ends", ["ca"], registry=self.registry
        )
        self._reload_failures = Counter(
            "identity_reload_failures", "Times the issuer folder couldn't be used", registry=self.registry
        )

        self._reviews = Counter(
            "identity_token_reviews",
            "TokenReviews, by outcome: yes, no, unclear, remembered (none was made)",
            ["outcome"],
            registry=self.registry,
        )

    def issued(self, seconds: float) -> None:
        self._issued.observe(seconds)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def watch_state_age(self, age: Callable[[], float | None]) -> None:
        """Show for how many seconds it hasn't been known which pods there are; NaN before it ever was."""
        gauge = Gauge(
            "identity_cluster_state_age_seconds",
            "For how long the API server hasn't said which pods there are",
            registry=self.registry,
        )

        def read() -> float:
            seconds = age()
            return math.nan if seconds is None else seconds

        gauge.set_function(read)

    def reviewed(self, outcome: str) -> None:
        self._reviews.labels(outcome).inc()

    def reload_failed(self) -> None:
        self._reload_failures.inc()

    def expiries(self, expiries: Mapping[str, datetime]) -> None:
        for name, end in expiries.items():
            self._expiry.labels(name).set(end.timestamp())

    def serve(self, host: str, port: int) -> None:
        """Answer `GET /metrics` in a thread; raises OSError."""
        start_http_server(port, host, self.registry)
