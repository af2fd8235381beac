"""policyd's own metrics: how many proxies, and how far behind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from policyd.distribute.session import State

if TYPE_CHECKING:
    from policyd.distribute.controller import Controller


class ControllerMetrics(Collector):
    """Read from the controller when they are asked for."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterable[GaugeMetricFamily]:
        proxies = GaugeMetricFamily(
            "policyd_proxies", "Connected proxies by the state of their table.", labels=["state"]
        )
        states = [session.state for session in self._controller.sessions]
        for state in get_args(State):
            proxies.add_metric([state], states.count(state))
        yield proxies
        broken = 0 if self._controller.broken is None else 1
        yield GaugeMetricFamily(
            "policyd_compile_failed", "Whether the last change has no tables.", value=broken
        )
        findings = sum(len(found) for found in self._controller.findings.values())
        yield GaugeMetricFamily(
            "policyd_source_findings", "What is wrong with the sources now.", value=findings
        )

    def serve(self, host: str, port: int, *more: Collector) -> None:
        """Listen for scrapes, of more than this, too. Raises OSError."""
        registry = CollectorRegistry()
        for each in (self, *more):
            registry.register(each)
        start_http_server(port, host, registry)
