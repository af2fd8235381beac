"""The listener: HTTPS by uvicorn, with a certificate that is replaced without a pause."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from policyd.serving.certificate import Material
from servicekit.server import ListenError, listen_problem
from servicekit.tls import WEB_PROTOCOLS, ServerTls, web_context

MOST_CONNECTIONS: Final = 256
"""At once; the API server keeps a few open and shares them."""
IDLE_SECONDS: Final = 75
"""How long a connection may say nothing; longer than the API server keeps one unused would be no use."""
GRACE_SECONDS: Final = 10
"""How long requests that are there may take when the process ends."""
BACKLOG: Final = 128
_PEER: Final = "policyd.peer_certificate"


@dataclass(frozen=True, slots=True)
class Clients:
    """Who may call: whose certificate one of these authorities (PEM) issued.

    `required`: nobody else gets as far as a request; otherwise the application is to refuse who shows none.
    """

    authorities: str
    required: bool = True


class WebServer:
    """Listens from `open` on, with what `show` and `trust` gave last."""

    def __init__(self, application: Starlette, clients: Clients | None = None) -> None:
        """`clients` None: certificates of clients aren't asked for, now or later."""
        self._application = application
        self._clients = clients
        self._material: Material | None = None
        self._tls: ServerTls | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def show(self, material: Material) -> None:
        """Show this certificate to every connection that begins from now on; open ones go on."""
        self._material = material
        self._renew()

    def trust(self, clients: Clients) -> None:
        """Let connections that begin from now on be of these clients; `required` stays as it was."""
        self._clients = clients
        self._renew()

    def _renew(self) -> None:
        if self._material is None:
            return
        leaf = self._material.leaf
        context = web_context(leaf.key, leaf.certificate)
        if self._clients is not None:
            if self._clients.authorities:  # none: whoever shows a certificate is refused
                context.load_verify_locations(cadata=self._clients.authorities)
            context.verify_mode = ssl.CERT_REQUIRED if self._clients.required else ssl.CERT_OPTIONAL
        if self._tls is None:
            self._tls = ServerTls(context, WEB_PROTOCOLS)
        else:
            self._tls.replace(context)

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return where. `show` comes before. Raises ListenError."""
        assert self._tls is not None, "there is a certificate to show"  # noqa: S101
        tls = self._tls.context
        listener = _listener(host, port)
        config = uvicorn.Config(
            self._application,
            http=_Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_context_factory=lambda _config, _default: tls,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not self._server.listening.is_set():
            listening.cancel()
            raise ListenError(f"listen {host}:{port}: the server ended at once")
        address = listener.getsockname()
        return address[0], address[1]

    async def close(self) -> None:
        """Take no more, and end when the requests that are there are answered."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving


class _Protocol(HttpToolsProtocol):
    """Uvicorn's, telling the application which certificate the other end proved (`peer_certificate`)."""

    _peer: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        self._peer = None if connection is None else connection.getpeercert(binary_form=True)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[_PEER] = self._peer  # type: ignore[typeddict-unknown-key]


def peer_certificate(scope: Scope) -> bytes | None:
    """Return the client's certificate (DER) as the handshake verified it; None where there was none."""
    found: bytes | None = scope.get(_PEER)
    return found


class _Server(uvicorn.Server):
    """Uvicorn's, without its own idea of signals, and saying when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(listen_problem(host, port, error)) from error
    return listener
