"""Figures of the injector. Names and labels are few and fixed, whatever is asked."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterable
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from policyd.admission.unmeshed import ADVICE, Unmeshed


class AdmissionMetrics:
    """Counters in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reviews = Counter(
            "policyd_admission_reviews",
            "Reviews by webhook and what came of them: allowed, refused, bad (no review), failed (a bug).",
            ["webhook", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "policyd_admission_seconds",
            "How long a review took, its arrival included.",
            ["webhook"],
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3),
            registry=self.registry,
        )
        self.certificate_end = Gauge(
            "policyd_admission_certificate_not_after_seconds",
            "When the serving certificate ends (seconds since 1970).",
            registry=self.registry,
        )
        self._unmeshed = Gauge(
            "policyd_admission_unmeshed_pods",
            "Pods of enrolled namespaces without a working proxy, by reason; any but 0 is worth an alert.",
            ["reason"],
            registry=self.registry,
        )
        for reason in ADVICE:
            self._unmeshed.labels(reason).set(0)

    def show_unmeshed(self, findings: Iterable[Unmeshed]) -> None:
        """Set how many pods have no working proxy."""
        counts = Counted(each.reason for each in findings)
        for reason in ADVICE:
            self._unmeshed.labels(reason).set(counts[reason])

    def count(self, webhook: str, outcome: str) -> None:
        """Count a review."""
        self._reviews.labels(webhook, outcome).inc()

    def time(self, webhook: str) -> AbstractContextManager[object]:
        """Time a review."""
        return self._seconds.labels(webhook).time()

    def serve(self, host: str, port: int) -> None:
        """Answer `/metrics` on an address of its own. Raises OSError."""
        start_http_server(port, host, self.registry)
