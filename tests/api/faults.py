"""A proxy in front of a real API server that lets go wrong what a test wants to go wrong.

It speaks plain HTTP on loopback, since it has to see requests and the lines of watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web

from kubeapi.access import Access
from kubeapi.credentials import Credentials
from kubeapi.sockets import Sockets
from tests.api.rig import ADMIN_TOKEN, ApiServer
from tests.listening import accept_no_more

Answer = Callable[[web.Request], web.Response | None]
"""What is answered in the place of the API server; None: ask it."""


def status(code: int, reason: str, message: str = "so says a test") -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure"} | {
        "code": code,
        "reason": reason,
        "message": message,
    }


def refusing(
    code: int, reason: str, *, watches_only: bool = False, headers: dict[str, str] | None = None
) -> Answer:
    """Answer everything, or every watch, with a status."""

    def answer(request: web.Request) -> web.Response | None:
        if watches_only and "watch" not in request.query:
            return None
        return web.json_response(status(code, reason), status=code, headers=headers)

    return answer


class _Watch:
    """One watch that passes through."""

    def __init__(self, response: web.StreamResponse, upstream: aiohttp.ClientResponse) -> None:
        self.response = response
        self.upstream = upstream
        self.stalled = False
        self.held: list[bytes] = []


class FaultProxy:
    """`answer`, `delay` and `disorder` concern what comes; `cut`, `stall` and `inject` what is open."""

    def __init__(self, api: ApiServer) -> None:
        self.answer: Answer | None = None
        self.delay = 0.0
        """Seconds before a request is passed on."""
        self.disorder: random.Random | None = None
        """Repeats and exchanges lines of watches at random."""
        self.token: str | None = None
        """The only token that isn't refused, None: any."""
        self.requests = 0
        self.port = 0
        self._api = api
        self._watches: set[_Watch] = set()
        self._runner: web.AppRunner | None = None
        self._listening: socket.socket | None = None
        self._session: aiohttp.ClientSession | None = None
        self._sockets = Sockets()

    @property
    def access(self) -> Access:
        return Access(lambda: Credentials(f"http://127.0.0.1:{self.port}", f"Bearer {ADMIN_TOKEN}"))

    async def open(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(client_max_size=2**26, handler_args={"access_log": None})
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        await web.SockSite(self._runner, self._listening).start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Listen no more: connections are cut, new ones refused."""
        self.cut()
        if self._runner is not None and self._listening is not None:
            await accept_no_more([self._listening])
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        await self._sockets.close()
        self._runner = self._listening = self._session = None

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Refuse connections for as long as the block lasts."""
        await self.close()
        try:
            yield
        finally:
            await self.open()

    def cut(self) -> None:
        """End every watch in the middle of what it says."""
        for watch in self._watches:
            if watch.response._req is not None and watch.response._req.transport is not None:
                watch.response._req.transport.abort()

    def stall(self) -> None:
        """Let every open watch say nothing more, without ending it."""
        for watch in self._watches:
            watch.stalled = True

    async def inject(self, *events: dict[str, Any]) -> None:
        """Let every open watch say something that the API server didn't."""
        for watch in list(self._watches):
            for event in events:
                with contextlib.suppress(ConnectionError):
                    await watch.response.write(json.dumps(event).encode() + b"\n")

    @property
    def watches(self) -> int:
        """How many are open."""
        return len(self._watches)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response(status(401, "Unauthorized"), status=401)
        told = self.answer(request) if self.answer is not None else None
        if told is not None:
            return told
        await asyncio.sleep(self.delay)
        headers = {
            name: value for name, value in request.headers.items() if name in {"Accept", "Content-Type"}
        }
        headers["Authorization"] = f"Bearer {ADMIN_TOKEN}"
        url = f"{self._api.url}{request.rel_url}"
        body = await request.read() or None  # with a body, however empty, goes a type of it
        async with self._connections().request(request.method, url, data=body, headers=headers) as upstream:
            if "watch" in request.query and upstream.status == 200:
                return await self._pass_on(request, upstream)
            return web.Response(
                status=upstream.status, body=await upstream.read(), content_type=upstream.content_type
            )

    async def _pass_on(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse()
        watch = _Watch(response, upstream)
        await response.prepare(request)
        self._watches.add(watch)
        try:
            async for line in upstream.content:
                while watch.stalled:
                    await asyncio.sleep(0.05)
                for each in self._disordered(watch, line):
                    await response.write(each)
        except ConnectionError:
            pass
        finally:
            self._watches.discard(watch)
        return response

    def _disordered(self, watch: _Watch, line: bytes) -> list[bytes]:
        if self.disorder is None:
            said, watch.held = [*watch.held, line], []
            return said
        dice = self.disorder.random()
        if dice < 0.2:
            watch.held.append(line)
            return []
        # What is held goes no later: a watch that ended then would have lost it, and nobody could tell.
        held, watch.held = watch.held, []
        return [line, line, *held] if dice < 0.4 else [line, *held]

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=self._api.ca)
            connector = aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=self._sockets.make)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**23
            )
        return self._session
