"""What becomes of a pod: a patch that gives it a proxy, a refusal that says why, or a reason to leave it.

Pure: the same pod, namespace and settings give the same answer, however often it is asked. The webhook and
`policyctl inject` ask here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policyd.admission import annotations as known
from policyd.admission.annotations import Problem
from policyd.admission.enrolment import NamespaceFacts, Wish, wish
from policyd.admission.guards import forbidden, impossible, other_mesh, unsafe
from policyd.admission.injection import CONTAINERS, VOLUME_PREFIX, Injection
from policyd.admission.json_patch import Operation, operations
from policyd.admission.pod import Pod, read_pod
from policyd.admission.presence import Present
from policyd.admission.probes import pointed, restored
from policyd.admission.sidecar import init_containers, volumes
from policyd.index.pod_shapes import by_tls, unanswered

DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True, slots=True)
class Injected:
    """The pod with its proxy. Without operations it had everything already."""

    pod: dict[str, Any]
    operations: tuple[Operation, ...]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The pod must not run: what is wrong with it, and what was expected."""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """The pod goes without a proxy, for this reason."""

    reason: str
    warnings: tuple[Problem, ...] = ()


Outcome = Injected | Refused | Left


def inject(written: object, namespace: NamespaceFacts, injection: Injection) -> Outcome:
    """Say what becomes of a pod of a namespace."""
    pod = read_pod(written)
    if isinstance(pod, Problem):
        return Refused((pod,))
    found = wish(pod.metadata.annotations, namespace, injection.control_plane)
    if found.answer == "leave":
        return Left(found.reason)
    if found.problem is not None:
        return Refused((found.problem,))
    return _wanted(pod, found, namespace, injection)


def inject_anyway(written: object, injection: Injection) -> Outcome:
    """Say what becomes of a pod whose author asks for a proxy by command, unless its annotation says no."""
    pod = read_pod(written)
    if isinstance(pod, Problem):
        return Refused((pod,))
    namespace = NamespaceFacts("", annotations={known.INJECT: "enabled"})
    found = wish(pod.metadata.annotations, namespace, injection.control_plane)
    if found.answer == "leave":
        return Left(found.reason)
    if found.problem is not None:
        return Refused((found.problem,))
    return _wanted(pod, found, namespace, injection)


def _as_declared(pod: Pod) -> Pod | Problem:
    """Return the pod with its probes as they were before any injection."""
    spec = restored(pod.written["spec"])
    if isinstance(spec, Problem):
        return spec
    before = read_pod({**pod.written, "spec": spec})
    return before if isinstance(before, Problem) else replace(before, given=pod.written)


def _wanted(given: Pod, found: Wish, namespace: NamespaceFacts, injection: Injection) -> Outcome:
    pod = _as_declared(given)
    if isinstance(pod, Problem):
        return Refused((pod,))
    mesh = other_mesh(pod.spec)
    if mesh is not None:
        # Whoever has another mesh keeps it: nobody's pods are to fail because we were installed beside it.
        insists = namespace.enrolled or pod.metadata.annotations.get(known.INJECT) == "enabled"
        return Refused((mesh,)) if insists else Left(mesh.text, (mesh,))
    obstacle = impossible(pod.spec)
    if obstacle is not None:
        if found.must:
            return Refused((obstacle,))
        return Left(obstacle.text, (obstacle,))
    risks = list(unsafe(pod.spec))
    insists = namespace.enrolled and not namespace.opt_out
    wrong = [*known.problems(pod.metadata.annotations), *forbidden(pod.spec), *(risks if insists else ())]
    if wrong:
        return Refused(tuple(wrong))
    return _patched(pod, injection, [*known.warnings(pod.metadata.annotations), *risks, *_probes(pod)])


def _patched(pod: Pod, injection: Injection, warnings: list[Problem]) -> Outcome:
    spec, probes = _pointed(pod)
    containers = init_containers(injection, pod.metadata.annotations, probes)
    parts = volumes(injection)
    present = Present(pod.written["spec"])
    strangers = tuple(present.strangers(containers, parts))
    if strangers:
        return Refused(strangers)
    ours = [present.containers.get(each["name"], each) for each in containers]
    others = [each for each in spec.get("initContainers") or () if each["name"] not in CONTAINERS]
    spec["initContainers"] = [*ours, *others]
    missing = [each for each in parts if each["name"] not in present.volumes]
    if missing:
        spec["volumes"] = [*(spec.get("volumes") or ()), *missing]
    after = {**pod.written, "metadata": _metadata(pod, [*containers, *parts]), "spec": spec}
    return Injected(after, tuple(operations(pod.given, after)), tuple(warnings))


def _pointed(pod: Pod) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the spec with its probes by TLS pointed at the proxy, and what the proxy must ask for them."""
    spec, probes = dict(pod.written["spec"]), []
    for name, typed in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        changed = []
        for container, written in zip(typed, spec.get(name) or (), strict=True):
            own = container.name in CONTAINERS
            after, asked = (written, []) if own else pointed(container, written)
            changed.append(after)
            probes += asked
        if changed:
            spec[name] = changed
    return spec, probes


def _metadata(pod: Pod, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata with our annotations: what was injected, and which container is the application."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    metadata = dict(pod.written.get("metadata") or {})
    there = dict(metadata.get("annotations") or {})
    there[known.INJECTED] = hashlib.sha256(text.encode()).hexdigest()[:16]
    there.setdefault(DEFAULT_CONTAINER, pod.spec.containers[0].name)
    return {**metadata, "annotations": there}


def _probes(pod: Pod) -> Iterator[Problem]:
    """Tell of probes that aren't answered before policy (semantics T6): some policy must allow them."""
    for path, container in pod.spec.foreign:
        for field, probe in container.named_probes:
            found = unanswered(probe, container)
            if found is not None and not by_tls(probe, container):
                yield Problem(f"{path}.{field}.{found[0]}", f"{found[1]}: it is under policy like any client")


def uninject(written: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pod without what `inject` put there; equal to `written` where there was nothing of ours.

    What isn't what the API's schema says is left as it is.
    """
    if isinstance(read_pod(written), Problem):
        return written
    before = restored(written.get("spec") or {})
    spec = dict((written.get("spec") or {}) if isinstance(before, Problem) else before)
    for field, ours in (
        ("initContainers", CONTAINERS.__contains__),
        ("volumes", lambda name: name.startswith(VOLUME_PREFIX)),
    ):
        kept = [each for each in spec.get(field) or () if not ours(each.get("name", ""))]
        if len(kept) != len(spec.get(field) or ()):
            spec[field] = kept
            if not kept:
                del spec[field]
    metadata = dict(written.get("metadata") or {})
    there = dict(metadata.get("annotations") or {})
    if there.pop(known.INJECTED, None) is None:
        return written if spec == (written.get("spec") or {}) else {**written, "spec": spec}
    first: dict[str, Any] = next(iter(spec.get("containers") or ()), {})
    if there.get(DEFAULT_CONTAINER) == first.get("name"):
        del there[DEFAULT_CONTAINER]
    metadata["annotations"] = there
    if not there:
        del metadata["annotations"]
    without = {**written, "metadata": metadata, "spec": spec}
    if not metadata:
        del without["metadata"]
    return without
