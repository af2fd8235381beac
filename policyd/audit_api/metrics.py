"""Figures of the API. Labels are few and fixed, whatever is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class AuditApiMetrics(Collector):
    """Counts answers by status."""

    def __init__(self) -> None:
        self.certificate_end = 0.0
        """When the serving certificate ends, in seconds since 1970; 0 before there is one."""
        self._answers: Counter[int] = Counter()

    def count(self, status: int) -> None:
        """Count an answer."""
        self._answers[status] += 1

    def collect(self) -> Iterable[Metric]:
        answers = CounterMetricFamily(
            "policyd_audit_api_answers", "Answers of the audit API, by HTTP status.", labels=["status"]
        )
        for status, count in sorted(self._answers.items()):
            answers.add_metric([str(status)], count)
        yield answers
        yield GaugeMetricFamily(
            "policyd_audit_api_certificate_not_after_seconds",
            "When the audit API's serving certificate ends (seconds since 1970).",
            value=self.certificate_end,
        )
