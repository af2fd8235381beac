"""The API over HTTP: who asks, whether he may, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from policyd.audit.store import Reading
from policyd.audit_api import objects
from policyd.audit_api.asked import Asked, asked_of, is_resource, utc_now
from policyd.audit_api.discovery import AGGREGATED, AGGREGATED_TYPE, DOCUMENTS, aggregated
from policyd.audit_api.explaining import Explainer
from policyd.audit_api.front_proxy import Caller, FrontProxy
from policyd.audit_api.metrics import AuditApiMetrics
from policyd.audit_api.names import GROUPS
from policyd.audit_api.refusal import Refusal
from policyd.audit_api.reviews import Reviews
from policyd.audit_api.sight import Standing
from policyd.audit_api.tables import ACCEPTED, table
from policyd.audit_api.watching import Watches
from policyd.errors import StoreUnavailable
from policyd.serving.server import peer_certificate

THREADS: Final = 4
"""Questions to the store at the same time."""
WAITING: Final = 64
"""Questions that wait for a thread; beyond that askers are told to come again."""
_JSON: Final = "application/json"
_log = structlog.get_logger()
T = TypeVar("T")


class AuditApi:
    """Answers what the API server passes on. Nothing is told to anybody else."""

    def __init__(
        self, store: Reading, standing: Standing, reviews: Reviews, metrics: AuditApiMetrics
    ) -> None:
        self.front: FrontProxy | None = None
        """Whom to believe; None: nobody."""
        self._store = store
        self._reviews = reviews
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(THREADS, "audit-api")
        self._working = 0
        self.watches = Watches(store, self._in_thread)
        self._explainer = Explainer(store, standing, reviews, self._in_thread)

    @property
    def application(self) -> Starlette:
        """The application to serve."""
        return Starlette(
            routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"])]
        )

    def close(self) -> None:
        """Begin no more questions to the store."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, request: Request) -> Response:
        try:
            response = await self._answered(request)
        except Refusal as error:
            response = _refused(error)
        except StoreUnavailable as error:
            response = _refused(Refusal(503, f"the audit store: {error}", 1))
        except Exception:
            _log.exception("audit_question_failed", path=request.url.path)
            response = _refused(Refusal(500, "internal error: policyd's log says more"))
        self._metrics.count(response.status_code)
        return response

    async def _answered(self, request: Request) -> Response:
        caller = self._caller(request)
        path = request.url.path
        if request.method != "GET":
            raise Refusal(405, "denials can't be written")
        if not is_resource(path):
            return _document(path, request.headers.get("accept", ""))
        asked = asked_of(path, request.query_params.multi_items(), utc_now())
        await self._reviews.require(caller, asked.deed)
        view = _View.of(request)
        if asked.verb == "watch":
            return self._watch(caller, asked, view)
        if asked.subresource:
            found = await self._explainer.explain(caller, asked.namespace or "", asked.name)
            return Response(msgspec.json.encode(found), media_type=_JSON)
        content = await self._in_thread(partial(_content, self._store, asked, view))
        return Response(content, media_type=_JSON)

    def _caller(self, request: Request) -> Caller:
        """Return for whom the API server asks. Raises Refusal (401)."""
        if self.front is None:
            # FAIL-CLOSED: without an authority nobody is the API server.
            raise Refusal(
                401, "it isn't known who the API server is: expected extension-apiserver-authentication"
            )
        return self.front.caller(peer_certificate(request.scope), request.headers.raw)

    def _watch(self, caller: Caller, asked: Asked, view: _View) -> Response:
        self.watches.admit(caller)
        return StreamingResponse(self.watches.lines(caller, asked, view.shown), media_type=_JSON)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do what reads the store beside the event loop. Raises Refusal where too much waits."""
        if self._working >= THREADS + WAITING:
            raise Refusal(429, "too many questions at the same time", 1)
        self._working += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._working -= 1


@dataclass(frozen=True, slots=True)
class _View:
    """How the asker wants to see it."""

    as_table: bool
    include: str

    @classmethod
    def of(cls, request: Request) -> _View:
        include = request.query_params.get("includeObject", "Metadata")
        if include not in {"None", "Metadata", "Object"}:
            raise Refusal(400, f"includeObject {include!r:.50}: expected None, Metadata or Object")
        first = request.headers.get("accept", "").partition(",")[0]
        return cls(ACCEPTED in first.replace(" ", ""), include)

    def shown(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return an answer as it is wanted."""
        return table(found, self.include) if self.as_table else found


def _content(store: Reading, asked: Asked, view: _View) -> bytes:
    found: dict[str, Any]
    if asked.verb == "get":
        found = objects.denial(objects.one(store, asked.namespace or "", asked.name))
    elif asked.resource == GROUPS:
        found = objects.grouped(store, asked)
    else:
        found = objects.listed(store, asked)
    return msgspec.json.encode(view.shown(found))


def _document(path: str, accept: str) -> Response:
    if path == "/apis" and AGGREGATED in accept and "v=v2;" in accept:
        return Response(msgspec.json.encode(aggregated()), media_type=AGGREGATED_TYPE)
    found = DOCUMENTS.get(path.rstrip("/"))
    if found is None:
        raise Refusal(404, "the server could not find the requested resource")
    return Response(msgspec.json.encode(found), media_type=_JSON)


def _refused(error: Refusal) -> Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["Connection"] = "close"  # whoever showed another certificate meanwhile begins anew with it
    return Response(msgspec.json.encode(error.body), error.status, headers, _JSON)
