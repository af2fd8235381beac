"""What the webhooks answer: from a request to an answer, through the functions that the commands use, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from policyd.admission.annotations import INJECT, Problem
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.guards import forbidden, unsafe
from policyd.admission.inject import Injected, Left, Refused, inject
from policyd.admission.injection import Injection
from policyd.admission.pod import Pod, read_pod
from policyd.admission.presence import Present
from policyd.admission.review import Answer, Cause, Handler, Request
from policyd.admission.validate import validate
from policyd.model.finding import Finding

PODS: Final = "/pods"
EPHEMERAL: Final = "/pods/ephemeralcontainers"

Namespaces = Callable[[str], NamespaceFacts | None]
"""What is known of a namespace; None where nothing is."""


def injector(injection: Injection, namespaces: Namespaces, *, enrolled: bool) -> Handler:
    """Return what answers about pods.

    `enrolled`: the API server has found the label on the namespace, whatever we have seen of it so far.
    """

    def answer(request: Request) -> Answer:
        namespace = namespaces(request.namespace)
        if namespace is None:
            message = f"namespace {request.namespace!r} isn't known to the injector yet: try again"
            return Answer(False, message) if enrolled else Answer(True, warnings=(message,))
        if enrolled and not namespace.enrolled:
            labels = {**namespace.labels, INJECT: "enabled"}
            namespace = NamespaceFacts(namespace.name, labels, namespace.annotations)
        if request.resource == EPHEMERAL:
            return _ephemeral(request, namespace)
        if request.resource != PODS or request.operation != "CREATE":
            return Answer(True)
        return _pod(request, namespace, injection)

    return answer


def _pod(request: Request, namespace: NamespaceFacts, injection: Injection) -> Answer:
    match inject(request.object, namespace, injection):
        case Injected(_, operations, warnings):
            did = "injected" if operations else "there already"
            return Answer(True, operations=operations, warnings=_texts(warnings), annotations=_did(did))
        case Refused(problems):
            return _refused("policyd can't give the pod its proxy", problems)
        case Left(reason, warnings):
            return Answer(True, warnings=_texts(warnings), annotations=_did(f"left: {reason}"))


def _did(what: str) -> tuple[tuple[str, str], ...]:
    return (("proxy", what),)


def _ephemeral(request: Request, namespace: NamespaceFacts) -> Answer:
    """Judge what `kubectl debug` adds to a running pod: it mustn't get around the pod's proxy either."""
    pod = read_pod(request.object)
    if not isinstance(pod, Pod):
        return _refused("the pod can't be read", (pod,))
    if not Present(pod.written["spec"]):
        return Answer(True)
    insists = namespace.enrolled and not namespace.opt_out
    found = [*forbidden(pod.spec), *(unsafe(pod.spec) if insists else ())]
    added = [each for each in found if each.field.startswith("spec.ephemeralContainers")]
    return _refused("policyd refuses the container", added) if added else Answer(True)


def validator(request: Request) -> Answer:
    """Answer about policies."""
    if request.operation not in {"CREATE", "UPDATE"} or request.object is None:
        return Answer(True)
    judgement = validate(request.object, request.old_object, request.namespace)
    if not judgement.errors:
        return Answer(True, warnings=tuple(_text(each) for each in judgement.warnings))
    causes = tuple(Cause(each.field, _words(each)) for each in judgement.errors)
    message = "; ".join(_text(each) for each in judgement.errors)
    return Answer(False, message, causes, warnings=tuple(_text(each) for each in judgement.warnings))


def _words(finding: Finding) -> str:
    return f"{finding.message}; {finding.advice}" if finding.advice else finding.message


def _text(finding: Finding) -> str:
    return f"{finding.field}: {_words(finding)}" if finding.field else _words(finding)


def _texts(problems: Iterable[Problem]) -> tuple[str, ...]:
    return tuple(each.text for each in problems)


def _refused(what: str, problems: Iterable[Problem]) -> Answer:
    listed = tuple(problems)
    causes = tuple(Cause(each.field, each.message) for each in listed)
    return Answer(False, f"{what}: {'; '.join(each.text for each in listed)}", causes)
