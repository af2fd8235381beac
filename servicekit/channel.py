"""A gRPC channel whose server must prove a SPIFFE ID before a byte of a request leaves."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from grpclib.client import Channel
from grpclib.protocol import H2Protocol

from identity.spiffe_id import SpiffeId
from servicekit.leaf import LeafError
from servicekit.tls import HANDSHAKE_SECONDS, peer_leaf


class PeerError(ConnectionError):
    """The server isn't the one expected; the message says who it is."""


class VerifiedChannel(Channel):
    """A channel to `expected`; calls raise PeerError, OSError or GRPCError."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, expected: SpiffeId) -> None:
        """Connect with the first call; `context` is one of `tls.client_context`."""
        super().__init__(host, port, ssl=context)
        self._expected = expected
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        """Close at once: nothing is left to be said, so nobody waits for the other end's farewell."""
        super().close()
        if self._transport is not None:
            self._transport.abort()

    async def _create_connection(self) -> H2Protocol:
        connecting = self._loop.create_connection(
            self._protocol_factory,
            self._host,
            self._port,
            ssl=self._ssl,
            server_hostname=self._expected.dns_name or self._host,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
        )
        transport, protocol = await asyncio.wait_for(connecting, 2 * HANDSHAKE_SECONDS)
        try:
            _require(transport, self._expected)
        except PeerError:
            transport.abort()
            raise
        self._transport = transport
        return protocol


def _require(transport: Any, expected: SpiffeId) -> None:
    try:
        leaf = peer_leaf(transport)
    except LeafError as error:
        raise PeerError(f"expected {expected}; its certificate: {error}") from error
    if leaf is None or leaf.identity != expected:
        raise PeerError(f"expected {expected}, got {None if leaf is None else leaf.identity}")
