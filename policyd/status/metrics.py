"""How statuses and Events are, for scrapes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policyd.status.service import StatusService


class StatusMetrics(Collector):
    """Read when they are asked for. Counts of a leader begin anew with each term."""

    def __init__(self, service: StatusService) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        service = self._service
        leading = service.leading
        writer = None if leading is None else leading.writer
        yield GaugeMetricFamily(
            "policyd_leader", "Whether this replica writes statuses.", value=int(service.elector.is_leader)
        )
        yield CounterMetricFamily(
            "policyd_leader_terms", "How often this replica began to lead.", value=service.elector.transitions
        )
        yield CounterMetricFamily(
            "policyd_status_failures", "Parts that ended and were begun again.", value=service.failures
        )
        yield GaugeMetricFamily(
            "policyd_status_waiting",
            "Objects to be looked at.",
            value=0 if writer is None else writer.waiting,
        )
        yield GaugeMetricFamily(
            "policyd_status_seconds",
            "What the last look at everything took of the loop.",
            value=0.0 if leading is None else leading.seconds,
        )
        writes = CounterMetricFamily(
            "policyd_status_writes", "Writes of statuses, by how they went.", labels=["result"]
        )
        writes.add_metric(["written"], 0 if writer is None else writer.written)
        writes.add_metric(["failed"], 0 if writer is None else writer.failed)
        yield writes
        yield from self._events()

    def _events(self) -> Iterable[Metric]:
        service = self._service
        events = CounterMetricFamily(
            "policyd_events", "Events, by what became of them.", labels=["about", "result"]
        )
        for about, recorder in (("denial", service.denied), ("finding", service.found)):
            for result, count in (
                ("written", recorder.written),
                ("failed", recorder.failed),
                ("dropped", recorder.dropped),
            ):
                events.add_metric([about, result], count)
        yield events
        yield CounterMetricFamily(
            "policyd_denials_passed_over",
            "Delivered records that were too many to be looked at for Events.",
            value=service.denials.passed_over,
        )
