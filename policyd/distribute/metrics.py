"""policyd's own metrics: how many proxies, and how far behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policyd.distribute.session import State

if TYPE_CHECKING:
    from policyd.distribute.controller import Controller


class ControllerMetrics(Collector):
    """Read from the controller when they are asked for."""

    def __init__(self, controller: Controller, figures: Callable[[], Mapping[str, int]]) -> None:
        """`figures`: the fan-out's."""
        self._controller = controller
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        proxies = GaugeMetricFamily(
            "policyd_proxies", "Connected proxies by the state of their table.", labels=["state"]
        )
        views = [session.view() for session in self._controller.sessions]
        states = [view.state for view in views if view is not None]
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
        behind = GaugeMetricFamily(
            "policyd_source_behind",
            "Parts of a source that aren't followed now; their last state counts.",
            labels=["source"],
        )
        for source in self._controller.sources:
            behind.add_metric([source.name], len(source.behind))
        yield behind
        yield from self._streams()

    def _streams(self) -> Iterable[Metric]:
        figures = self._figures()
        yield GaugeMetricFamily("policyd_streams", "Open streams, of both kinds.", value=figures["streams"])
        answers = CounterMetricFamily(
            "policyd_assignments", "Assignments by what the proxy answered.", labels=["answer"]
        )
        for answer in ("acks", "nacks"):
            answers.add_metric([answer.removesuffix("s")], figures[answer])
        yield answers
        ended = CounterMetricFamily(
            "policyd_connections_ended", "Connections that were not taken, or cut.", labels=["why"]
        )
        for why, name in (
            ("handshake", "handshakes_failed"),
            ("limit", "connections_refused"),
            ("http2", "connections_failed"),
        ):
            ended.add_metric([why], figures[name])
        yield ended

    def serve(self, host: str, port: int, *more: Collector) -> None:
        """Listen for scrapes, of more than this, too. Raises OSError."""
        registry = CollectorRegistry()
        for each in (self, *more):
            registry.register(each)
        start_http_server(port, host, registry)
