"""The webhooks over HTTP: bounded in what a request may hold and in how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from policyd.admission import review
from policyd.admission.metrics import AdmissionMetrics
from policyd.admission.review import Answer, BadReview, Handler

BODY_SECONDS: Final = 5.0
"""How long a request may take to arrive; the API server gives up after its `timeoutSeconds`."""
THREADS: Final = 2
"""Reviews of one webhook at a time: they are work for the interpreter, and more would only share it."""

_log = structlog.get_logger()


def application(handlers: Mapping[str, Handler], metrics: AdmissionMetrics) -> Starlette:
    """Return an application that answers `POST` on each path with its handler."""
    routes = [
        Route(path, _endpoint(path, handler, metrics), methods=["POST"]) for path, handler in handlers.items()
    ]
    return Starlette(routes=routes)


def _endpoint(
    path: str, handler: Handler, metrics: AdmissionMetrics
) -> Callable[[Request], Awaitable[Response]]:
    name = path.strip("/").replace("/", "_")
    # Of its own for each path: who sends policies that take long to refuse holds up no pod.
    threads = ThreadPoolExecutor(THREADS, f"review-{name}")

    async def endpoint(request: Request) -> Response:
        with metrics.time(name):
            response, outcome = await _respond(request, handler, threads)
        metrics.count(name, outcome)
        return response

    return endpoint


async def _respond(request: Request, handler: Handler, threads: ThreadPoolExecutor) -> tuple[Response, str]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(request)
    except TimeoutError:
        return PlainTextResponse("the request took too long to arrive\n", 408), "bad"
    except ClientDisconnect:
        return PlainTextResponse("nobody is there\n", 400), "bad"
    if body is None:
        return PlainTextResponse(f"expected at most {review.MOST_BYTES} bytes\n", 413), "bad"
    try:
        loop = asyncio.get_running_loop()
        asked, answer, text = await loop.run_in_executor(threads, review.answer_to, body, handler)
    except BadReview as error:
        _log.warning("review_refused", why=str(error))
        return PlainTextResponse(f"{error}\n", 400), "bad"
    except Exception:
        # The API server does what its failurePolicy says; the next request finds us alive.
        _log.exception("review_failed")
        return PlainTextResponse("internal error\n", 500), "failed"
    _tell(asked, answer)
    return Response(text, media_type="application/json"), "allowed" if answer.allowed else "refused"


async def _body(request: Request) -> bytes | None:
    """Return the body; None where it is too long, of which no more is read."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > review.MOST_BYTES:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _tell(asked: review.Request, answer: Answer) -> None:
    """Write down what was decided; a dry run is called one (WH-08)."""
    say = _log.info if answer.allowed else _log.warning
    say(
        "dry_run" if asked.dry_run else "admitted" if answer.allowed else "refused",
        resource=asked.resource,
        operation=asked.operation,
        namespace=asked.namespace,
        name=asked.name,
        user=asked.user,
        uid=asked.uid,
        allowed=answer.allowed,
        patched=bool(answer.operations),
        why=answer.message[:500],
    )
