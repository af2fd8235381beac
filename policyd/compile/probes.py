"""Probes that are declared and yet come under policy (semantics T6), for `policyctl check`."""

from __future__ import annotations

from collections.abc import Iterator

from policyd.compile.findings import about
from policyd.index.pod_shapes import unanswered
from policyd.index.world import Object
from policyd.model.finding import Finding
from policyd.resources.base import Resource
from policyd.resources.workload import Container, Pod, PodOwner, PodSpec, controller_of

_ADVICE = "use an HTTP, gRPC or TCP probe of the pod itself, or one that runs a command"


def not_exempt(found: Object) -> Iterator[Finding]:
    """Yield a finding for each such probe of a pod or a pod template."""
    for place, container in _containers(found):
        for name, probe in container.named_probes:
            flaw = unanswered(probe, container)
            if flaw is not None:
                field, why = flaw
                message = f"this probe is decided on like any request: {why}"
                yield about(found, "ProbeNotExempt", f"{place}.{name}.{field}", message, _ADVICE, "warning")


def _containers(found: Object) -> Iterator[tuple[str, Container]]:
    spec = found.spec if isinstance(found, Resource) else None
    if isinstance(spec, PodOwner):
        job = "jobTemplate.spec." if spec.kind == "CronJob" else ""
        yield from _of(f"spec.{job}template.spec", spec.template.spec)
    elif isinstance(spec, Pod) and controller_of(spec.owners) is None:
        yield from _of("spec", spec.spec)


def _of(place: str, spec: PodSpec) -> Iterator[tuple[str, Container]]:
    for index, container in enumerate(spec.containers):
        yield f"{place}.containers[{index}]", container
    for index, container in enumerate(spec.init_containers):
        if container.restart_policy == "Always":
            yield f"{place}.initContainers[{index}]", container
