"""Which ports of which workloads a Server claims (semantics W2, U3)."""

from __future__ import annotations

from dataclasses import dataclass

from policyd.index.shapes import Shape
from policyd.resources.base import Resource, Unreadable
from policyd.resources.selectors import LabelSelector
from policyd.resources.server import ServerSpec


@dataclass(frozen=True, slots=True)
class Claim:
    """A selector over pods, or over ExternalWorkloads where `external`, and a port by number or name."""

    selector: LabelSelector
    external: bool
    port: int | str

    def selects(self, shape: Shape) -> bool:
        return self.external is shape.external and self.selector.matches(shape.label_map)

    def ports_of(self, shape: Shape) -> frozenset[int]:
        """Return the numbers claimed of a workload that it selects; none where no port has that name."""
        if isinstance(self.port, int):
            return frozenset({self.port})
        return frozenset(port.number for port in shape.ports if port.name == self.port)


def claim_of(server: Resource[object] | Unreadable) -> Claim | None:
    """Return what a Server claims; None where its selector or its port can't be read."""
    if isinstance(server, Resource):
        spec = server.spec
        if not isinstance(spec, ServerSpec):
            raise TypeError(f"{server.key.text} is no Server")
        return Claim(spec.selector, spec.pod_selector is None, spec.port)
    return _salvaged(server)


def _salvaged(server: Unreadable) -> Claim | None:
    port = server.salvage.get("port")
    both = {"pod_selector", "external_workload_selector"}
    if isinstance(port, bool) or not isinstance(port, int | str) or not both <= server.salvage.keys():
        return None
    over_pods = server.salvage["pod_selector"]
    over_external = server.salvage["external_workload_selector"]
    if isinstance(over_pods, LabelSelector) and over_external is None:
        return Claim(over_pods, external=False, port=port)
    if isinstance(over_external, LabelSelector) and over_pods is None:
        return Claim(over_external, external=True, port=port)
    return None


def concerns(server: Resource[object] | Unreadable, shape: Shape) -> bool:
    """Whether the Server can have any effect on a workload of its namespace."""
    claim = claim_of(server)
    return claim is None or claim.selects(shape)
