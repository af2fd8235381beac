"""How the trail is, for scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policyd.audit.store import Store


class AuditMetrics(Collector):
    """Read from the store when they are asked for."""

    def __init__(self, store: Store, refused: Counter[str]) -> None:
        self._store = store
        self._refused = refused

    def collect(self) -> Iterable[Metric]:
        standing = self._store.standing
        yield CounterMetricFamily(
            "policyd_audit_records", "Records of proxies that were kept.", value=standing.records
        )
        yield CounterMetricFamily(
            "policyd_audit_lost", "Denials that proxies say were lost.", value=standing.lost
        )
        for name, says, value in (
            ("store_failing", "Whether nothing can be kept now.", int(standing.problem is not None)),
            ("store_bytes", "Size of the store.", standing.size_bytes),
            ("rolled_back", "Records that proxies know and the store lacks.", standing.rolled_back),
        ):
            yield GaugeMetricFamily(f"policyd_audit_{name}", says, value=value)
        refused = CounterMetricFamily(
            "policyd_audit_streams_ended", "Streams that policyd ended, by code.", labels=["code"]
        )
        for code, count in sorted(self._refused.items()):
            refused.add_metric([code], count)
        yield refused
