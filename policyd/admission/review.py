"""AdmissionReview v1: from the bytes of a request to the bytes of an answer, whatever is in them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from policyd.resources.spec import shown

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
MOST_BYTES: Final = 3 * 2**20
"""The API server takes requests up to 3 MiB; a review holds an object, and on updates the one before."""
MOST_DEPTH: Final = 64
"""Deeper is no object of the API's; `managedFields` are the deepest part of ordinary ones."""
MOST_UID: Final = 128
MOST_WARNINGS: Final = 16
MOST_WARNING: Final = 250
"""Letters of a warning; the API server cuts them at 256."""
MOST_MESSAGE: Final = 4096

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
Json = Mapping[str, Any]


class BadReview(Exception):  # noqa: N818 - says what it is
    """Bytes that aren't an AdmissionReview of version 1: answered with 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the API server asks."""

    uid: str
    operation: str
    resource: str
    """`group/resource` and `/subresource` where there is one; the core group is ""."""
    namespace: str
    name: str
    object: Json | None
    old_object: Json | None
    dry_run: bool = False
    user: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is why a request is refused."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server is told. `operations` are a JSON patch; none for an object that stays as it is."""

    allowed: bool
    message: str = ""
    causes: tuple[Cause, ...] = ()
    operations: Sequence[Mapping[str, Any]] = ()
    warnings: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    """For the API server's audit log."""


Handler = Callable[[Request], Answer]


def answer_to(body: bytes, handler: Handler) -> tuple[Request, Answer, bytes]:
    """Ask a handler what a request's body asks. Raises BadReview."""
    request = parse(body)
    answer = _answer(request, handler)
    return request, answer, rendered(request.uid, answer)


def _answer(request: Request, handler: Handler) -> Answer:
    if request.operation in {"CREATE", "UPDATE"} and request.object is None:
        return Answer(False, "the request has no object", (Cause("request.object", "missing"),))
    return handler(request)


def parse(body: bytes) -> Request:
    """Read a request. Raises BadReview, whose text says what was expected."""
    if len(body) > MOST_BYTES:
        raise BadReview(f"{len(body)} bytes: expected at most {MOST_BYTES}")
    try:
        review = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadReview(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(review, dict):
        raise BadReview(f"expected an {KIND}")
    if _depth(review) > MOST_DEPTH:
        raise BadReview(f"nested deeper than {MOST_DEPTH}")
    if review.get("apiVersion") != API_VERSION or review.get("kind") != KIND:
        found = f"{shown(review.get('apiVersion'))}, {shown(review.get('kind'))}"
        raise BadReview(f"{found}: expected {KIND} of {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise BadReview("no request: expected one")
    return _request(request)


def _request(request: Json) -> Request:
    uid = request.get("uid")
    if not isinstance(uid, str) or not 0 < len(uid) <= MOST_UID:
        raise BadReview("no uid: expected that of the request")
    resource = request.get("resource")
    if not isinstance(resource, dict):
        raise BadReview("no resource: expected group, version and resource")
    parts = [_text(resource, "group"), _text(resource, "resource")]
    subresource = _text(request, "subResource")
    user = request.get("userInfo")
    return Request(
        uid=uid,
        operation=_text(request, "operation"),
        resource="/".join([*parts, subresource] if subresource else parts),
        namespace=_text(request, "namespace"),
        name=_text(request, "name"),
        object=_object(request, "object"),
        old_object=_object(request, "oldObject"),
        dry_run=request.get("dryRun") is True,
        user=_text(user, "username") if isinstance(user, dict) else "",
    )


def _text(mapping: Json, key: str) -> str:
    value = mapping.get(key, "")
    if not isinstance(value, str):
        raise BadReview(f"{key}: {shown(value)}: expected text")
    return value


def _object(request: Json, key: str) -> Json | None:
    value = request.get(key)
    if value is not None and not isinstance(value, dict):
        raise BadReview(f"{key}: {shown(value)}: expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON's")


def _depth(value: Any) -> int:
    """How deep values are nested; no deeper than MOST_DEPTH + 1 is looked."""
    layer: list[Any] = [value]
    for depth in range(MOST_DEPTH + 1):
        inner: list[Any] = []
        for each in layer:
            members = each.values() if isinstance(each, dict) else each
            inner.extend(member for member in members if isinstance(member, dict | list))
        if not inner:
            return depth + 1
        layer = inner
    return MOST_DEPTH + 1


def rendered(uid: str, answer: Answer) -> bytes:
    """Return the bytes of an answer: ASCII, bounded."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        response["status"] = _status(answer)
    if answer.operations:
        patch = json.dumps(list(answer.operations), separators=(",", ":"))
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
    warnings = list(_cut(answer.warnings))
    if warnings:
        response["warnings"] = warnings
    if answer.annotations:
        response["auditAnnotations"] = dict(answer.annotations)
    return json.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response}).encode()


def _status(answer: Answer) -> dict[str, Any]:
    causes = [
        {"reason": "FieldValueInvalid", "field": each.field, "message": each.message[:MOST_MESSAGE]}
        for each in answer.causes[:MOST_WARNINGS]
    ]
    return {
        "code": 422 if causes else 403,
        "reason": "Invalid" if causes else "Forbidden",
        "message": answer.message[:MOST_MESSAGE],
        "details": {"causes": causes},
    }


def _cut(warnings: Iterable[str]) -> Iterable[str]:
    for index, text in enumerate(warnings):
        if index == MOST_WARNINGS:
            yield "there is more: `policyctl check` says all of it"
            return
        plain = "".join(letter if letter.isprintable() else " " for letter in text)
        yield plain if len(plain) <= MOST_WARNING else f"{plain[: MOST_WARNING - 1]}…"
