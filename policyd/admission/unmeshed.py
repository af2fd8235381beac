"""Pods of enrolled namespaces that have no proxy which works and is ours (research: security, WH-10; P-19).

Admission keeps such pods out. These are the ones that were there before the namespace was enrolled, that came
while the registration was gone, or that somebody wrote past the API server's webhooks. Pure, like injection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from policyd.admission.annotations import MIRROR, Problem
from policyd.admission.enrolment import SYSTEM_NAMESPACES, NamespaceFacts, wish
from policyd.admission.guards import forbidden, impossible, unsafe
from policyd.admission.injection import PROXY, Injection
from policyd.admission.pod import Pod, read_pod
from policyd.admission.presence import Present, difference
from policyd.admission.probes import SETTINGS
from policyd.admission.sidecar import BUNDLE_VOLUME, TOKEN_VOLUME, init_containers, volumes

Reason = Literal[
    "impossible", "no_proxy", "not_redirected", "not_ours", "gets_around", "not_running", "not_ready"
]

ADVICE: Final[Mapping[Reason, str]] = {
    "impossible": "move it to a namespace that isn't enrolled: a proxy can't stand in front of it",
    "no_proxy": "restart it: it is older than the enrolment, or came while the webhook wasn't registered",
    "not_redirected": "restart it: its traffic doesn't have to pass the proxy",
    "not_ours": "delete it, and ask who made it: what it has isn't what the injector writes",
    "gets_around": "take that away from it: it can send or receive past its proxy",
    "not_running": "see why: `kubectl logs -c policyd-proxy`; until it runs, the pod's traffic is refused",
    "not_ready": "see why: `kubectl logs -c policyd-proxy`; it has no identity or no table",
}
"""What to do, by what was found."""
CLOSED: Final[frozenset[Reason]] = frozenset({"not_running", "not_ready"})
"""Of these the traffic is refused; all the others are open."""

FINISHED = frozenset({"Succeeded", "Failed"})
"""Phases of pods in which nothing runs any more."""
_FIXED = ("command", "securityContext", "restartPolicy")
"""Fields of our containers that no version and no annotation changes."""
_TRUST = ("trustDomain", "identity", "policy", "controlPlaneNamespace", "transparent", "inbound", "outbound")
"""Settings of a proxy that say whom it obeys, and what it stands in front of."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unmeshed:
    """A pod that runs, or is going to, without a working proxy in front of it."""

    namespace: str
    name: str
    uid: str
    reason: Reason
    problem: Problem

    @property
    def pod(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def text(self) -> str:
        """All of it in a line, for people."""
        return f"{self.pod}: {self.problem.text}"

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.reason]

    @property
    def is_open(self) -> bool:
        """Whether traffic goes past all policy; else it is refused."""
        return self.reason not in CLOSED


def unmeshed(written: Json, namespace: NamespaceFacts, injection: Injection) -> Unmeshed | None:
    """Return what is wrong with a pod of an enrolled namespace; None where nothing is, or it isn't asked for.

    `written` is the pod as the API server has it, status included.
    """
    if not namespace.enrolled or namespace.name in SYSTEM_NAMESPACES | {injection.control_plane}:
        return None
    status = written.get("status") or {}
    if status.get("phase") in FINISHED:
        return None
    found = _found(written, status, namespace, injection)
    if found is None:
        return None
    metadata = written.get("metadata") or {}
    return Unmeshed(namespace.name, str(metadata.get("name", "")), str(metadata.get("uid", "")), *found)


def _found(
    written: Json, status: Json, namespace: NamespaceFacts, injection: Injection
) -> tuple[Reason, Problem] | None:
    pod = read_pod(written)
    if isinstance(pod, Problem):
        return "not_ours", pod
    annotations = pod.metadata.annotations
    if MIRROR in annotations:
        return "impossible", Problem("metadata.annotations", "a static pod, which its node makes from a file")
    if wish(annotations, namespace, injection.control_plane).answer == "leave":
        return None
    obstacle = impossible(pod.spec)
    if obstacle is not None:
        return "impossible", obstacle
    return _lacking(pod, injection) or _around(pod, namespace) or _down(status)


def _lacking(pod: Pod, injection: Injection) -> tuple[Reason, Problem] | None:
    """Compare with what is injected, but for what differs from one version of ours to the next."""
    spec = pod.written["spec"]
    present = Present(spec)
    wanted = init_containers(injection, pod.metadata.annotations)
    if PROXY not in present.containers:
        return "no_proxy", Problem("spec.initContainers", f"no {PROXY}")
    for each in wanted:
        if each["name"] not in present.containers:
            return "not_redirected", Problem("spec.initContainers", f"no {each['name']}")
    first = [each["name"] for each in spec["initContainers"][: len(wanted)]]
    if first != [each["name"] for each in wanted]:
        return "not_redirected", Problem("spec.initContainers", f"{first[0]} runs before the redirection")
    for each in wanted:
        problem = next(_differing(each, present.containers[each["name"]]), None)
        if problem is not None:
            return "not_ours", problem
    for each in volumes(injection):
        if each["name"] in {TOKEN_VOLUME, BUNDLE_VOLUME}:
            place = f"spec.volumes[{each['name']}]"
            problem = next(difference(each, present.volumes.get(each["name"]), place), None)
            if problem is not None:
                return "not_ours", problem
    return None


def _differing(wanted: Json, there: Json) -> Iterator[Problem]:
    place = f"spec.initContainers[{wanted['name']}]"
    expected, found = repository(wanted["image"]), str(there.get("image", ""))
    if repository(found) != expected:
        yield Problem(f"{place}.image", f"{found[:200]!r}: expected one of {expected}")
    for field in _FIXED:
        yield from difference(wanted.get(field), there.get(field), f"{place}.{field}")
    if wanted["name"] == PROXY:
        obeyed, expected_settings = _settings(there), _settings(wanted)
        for key in _TRUST:
            yield from difference(
                expected_settings.get(key), obeyed.get(key), f"{place}.env[{SETTINGS}].{key}"
            )


def repository(image: str) -> str:
    """Return an image's name without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def tag(image: str) -> str:
    """Return an image's tag; "" where it has none, or a digest alone."""
    name = image.partition("@")[0]
    return name.removeprefix(repository(image)).removeprefix(":")


def _settings(container: Json) -> Json:
    """Return the settings in a proxy's environment; {} where they can't be read."""
    for each in container.get("env") or ():
        if each.get("name") == SETTINGS:
            try:
                found = json.loads(str(each.get("value")))
            except ValueError:
                return {}
            return found if isinstance(found, Mapping) else {}
    return {}


def _around(pod: Pod, namespace: NamespaceFacts) -> tuple[Reason, Problem] | None:
    risks = () if namespace.opt_out else unsafe(pod.spec)
    problem = next((each for found in (forbidden(pod.spec), risks) for each in found), None)
    return None if problem is None else ("gets_around", problem)


def _down(status: Json) -> tuple[Reason, Problem] | None:
    """Say whether the application runs and its proxy doesn't. A pod that starts has no application yet."""
    if not any(_runs(each) for each in status.get("containerStatuses") or ()):
        return None
    for each in status.get("initContainerStatuses") or ():
        if each.get("name") == PROXY:
            field = f"status.initContainerStatuses[{PROXY}]"
            state = each.get("state") or {}
            if not _runs(each):
                why = (state.get("waiting") or state.get("terminated") or {}).get(
                    "reason"
                ) or "no reason given"
                restarts = each.get("restartCount", 0)
                return "not_running", Problem(field, f"{str(why)[:80]}, {restarts} restarts")
            if not each.get("ready"):
                return "not_ready", Problem(field, "its /ready says no")
    return None


def _runs(status: Json) -> bool:
    return (status.get("state") or {}).get("running") is not None
