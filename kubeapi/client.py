"""Requests to the API server: bounded in time and in what an answer may hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from kubeapi.access import Access
from kubeapi.errors import UNREACHABLE, UNUSABLE, ApiError, refused
from kubeapi.lines import lines
from kubeapi.path import ResourcePath
from kubeapi.sockets import Sockets

REQUEST_SECONDS = 30.0
"""One attempt, from connecting to the answer's last byte; the API server itself gives up after 60 s."""
CONNECT_SECONDS = 10.0
MOST_ATTEMPTS = 4
"""How often a request is sent where 429 or 503 say when to come again."""
MOST_RETRY_AFTER = 10.0
"""Seconds that are waited at most before another attempt, whatever the answer says."""
MOST_ANSWER_BYTES = 16 * 2**20
"""An object has at most 1.5 MiB in etcd, somewhat more as JSON."""
MOST_PAGE_BYTES = 64 * 2**20
MOST_LINE_BYTES = 16 * 2**20
"""One event of a watch: an object, or two Status lines."""
PAGE = 500
"""Objects asked for at a time, as the API server's other clients do."""

JsonObject = dict[str, Any]
T = TypeVar("T")

_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_PATCH = "application/json-patch+json"
_USER_AGENT = "policyd"


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of an answer that isn't a refusal."""

    body: bytes

    def json(self) -> JsonObject:
        """Return what it says. Raises ApiError."""
        return self.into(dict)

    def into(self, kind: type[T]) -> T:
        """Decode it into `kind`, say a msgspec struct of the fields that are read. Raises ApiError."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiError(200, UNUSABLE, f"an answer that can't be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as often as it is sent."""

    method: str
    url: str
    params: Mapping[str, str]
    body: bytes | None = None
    content_type: str = _JSON
    most_bytes: int = MOST_ANSWER_BYTES
    accept: str = _JSON


class Client:
    """Speaks with one API server; an async context manager. Every method raises ApiError and AccessError."""

    def __init__(self, access: Access, field_manager: str) -> None:
        """`field_manager` is who owns the fields that `apply` sends; the same over restarts and replicas."""
        self.access = access
        self._manager = field_manager
        self._sockets = Sockets()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, and wait for no answer to that."""
        if self._session is not None:
            await self._session.close()
        await self._sockets.close()

    async def get(self, path: ResourcePath, name: str) -> Answer:
        """Read one object."""
        return await self.send(Request("GET", path.url(name), {}))

    async def raw(self, url: str, params: Mapping[str, str] | None = None) -> Answer:
        """Read what a path of the API server holds, like `/version` or `/openid/v1/jwks`."""
        # Some of it has a media type of its own, which `application/json` alone doesn't accept.
        return await self.send(Request("GET", url, params or {}, accept=f"{_JSON}, */*"))

    async def pages(
        self, path: ResourcePath, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """Read all objects, a page at a time. Pages that are too long are asked for again in smaller ones."""
        limit, asked = PAGE, dict(params or {})
        while True:
            try:
                request = Request(
                    "GET", path.url(), {**asked, "limit": str(limit)}, most_bytes=MOST_PAGE_BYTES
                )
                page = await self.send(request)
            except ApiError as error:
                if error.reason == UNUSABLE and limit > 1:
                    limit = max(1, limit // 8)
                    continue
                raise
            yield page
            token = page.into(_Page).metadata.next_page
            if not token:
                return
            asked["continue"] = token
            for key in ("resourceVersion", "resourceVersionMatch"):  # a continued list has one already
                asked.pop(key, None)

    async def create(
        self, path: ResourcePath, body: Any, subresource: tuple[str, str] | None = None
    ) -> Answer:
        """Create an object, or with (name, subresource) what a part of one does (`token`, `eviction`)."""
        url = path.url(*subresource) if subresource else path.url()
        return await self.send(Request("POST", url, {"fieldManager": self._manager}, _encode(body)))

    async def apply(
        self, path: ResourcePath, name: str, body: Any, *, subresource: str | None = None, force: bool = True
    ) -> Answer:
        """Server-side apply: what `body` says is so; fields that we said before and no longer say go.

        `force` takes fields from whoever else owns them; without it that is a 409.
        """
        params = {"fieldManager": self._manager, "force": "true" if force else "false"}
        return await self.send(Request("PATCH", path.url(name, subresource), params, _encode(body), _APPLY))

    async def merge(
        self, path: ResourcePath, name: str, body: Any, *, subresource: str | None = None
    ) -> Answer:
        """Merge patch; with `metadata.resourceVersion` in the body it is guarded by that."""
        params = {"fieldManager": self._manager}
        return await self.send(Request("PATCH", path.url(name, subresource), params, _encode(body), _MERGE))

    async def patch(
        self, path: ResourcePath, name: str, steps: Any, *, subresource: str | None = None
    ) -> Answer:
        """JSON patch; a `test` step guards it."""
        params = {"fieldManager": self._manager}
        return await self.send(Request("PATCH", path.url(name, subresource), params, _encode(steps), _PATCH))

    async def replace(
        self, path: ResourcePath, name: str, body: Any, *, subresource: str | None = None
    ) -> Answer:
        """Write the whole object; guarded by the resourceVersion in it."""
        params = {"fieldManager": self._manager}
        return await self.send(Request("PUT", path.url(name, subresource), params, _encode(body)))

    async def delete(self, path: ResourcePath, name: str, body: Any = None) -> Answer:
        """Delete an object; `body` is a `v1.DeleteOptions` where there is one."""
        return await self.send(Request("DELETE", path.url(name), {}, None if body is None else _encode(body)))

    async def send(self, request: Request) -> Answer:
        """Send a request, and again where 429 or 503 say when, or where our credentials were outdated."""
        attempt, fresh = 1, False
        while True:
            before = await self.access.current()
            try:
                return await self._attempt(request)
            except ApiError as error:
                if error.status == 401 and not fresh:
                    fresh = True
                    if await self.access.current() != before:
                        continue
                if error.status not in {429, 503} or error.retry_after is None or attempt >= MOST_ATTEMPTS:
                    raise
                wait = min(error.retry_after, MOST_RETRY_AFTER)
            attempt += 1
            await asyncio.sleep(wait * random.uniform(1.0, 1.2))  # noqa: S311 — spreads load, hides nothing

    async def _attempt(self, request: Request) -> Answer:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._open(request, timeout) as response:
            return Answer(await _body(response, request.most_bytes))

    @contextlib.asynccontextmanager
    async def watch(
        self, path: ResourcePath, params: Mapping[str, str], silence: float, longest: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; what it gives are its lines, one event each, until the server ends it.

        A watch that says nothing for `silence` seconds, or lasts longer than `longest`, ends with an ApiError
        (Unreachable): a connection can be open and dead.
        """
        timeout = aiohttp.ClientTimeout(total=longest, sock_connect=CONNECT_SECONDS, sock_read=silence)
        async with self._open(Request("GET", path.url(), {**params, "watch": "1"}), timeout) as response:
            yield lines(response.content.iter_any(), MOST_LINE_BYTES)

    @contextlib.asynccontextmanager
    async def _open(
        self, request: Request, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        credentials = await self.access.current()
        headers = {"Accept": request.accept, "Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if credentials.authorization is not None:
            headers["Authorization"] = credentials.authorization
        try:
            async with self._connections().request(
                request.method,
                f"{credentials.server}{request.url}",
                params=request.params,
                data=request.body,
                headers=headers,
                timeout=timeout,
                ssl=self.access.tls(credentials),
                server_hostname=credentials.server_name,
                proxy=credentials.proxy,
                allow_redirects=False,  # nobody else is shown our token
            ) as response:
                if not 200 <= response.status < 300:
                    body = await _body(response, MOST_ANSWER_BYTES)
                    if response.status == 401:
                        await self.access.reread()
                    raise refused(response.status, body, response.headers.get("Retry-After"))
                yield response
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise ApiError(0, UNREACHABLE, f"{credentials.server}: {_said(error)}") from error

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, socket_factory=self._sockets.make)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


class _ListMeta(msgspec.Struct):
    next_page: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _ListMeta


def _said(error: aiohttp.ClientError | OSError) -> str:
    """Return what an error says, without the objects that the library prints along."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno  # below 1: of the resolver, whose text is its own
        return os.strerror(number) if number and number > 0 else str(error.os_error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _encode(body: Any) -> bytes:
    return msgspec.json.encode(body) if isinstance(body, msgspec.Struct) else json.dumps(body).encode()


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > most:
            response.close()
            raise ApiError(response.status, UNUSABLE, f"an answer of more than {most} bytes")
        parts.append(chunk)
    return b"".join(parts)
