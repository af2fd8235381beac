"""TLS contexts of the control plane: TLS 1.3 only, both ends verified by SPIFFE ID, no resumption.

Names in certificates are checked by us after the handshake (`peer_leaf`), never by host name.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Protocol

from servicekit.leaf import Leaf, read_leaf
from servicekit.svid import Svid

WEB_PROTOCOLS = ("http/1.1",)
"""What ALPN offers where an API server calls."""
HANDSHAKE_SECONDS = 5.0
"""How long a peer may take for its handshake (security A.2 TLS-13)."""


class HasExtraInfo(Protocol):
    """An asyncio transport, as far as it is needed here."""

    def get_extra_info(self, name: str) -> object: ...


def server_context(svid: Svid, roots: Sequence[bytes], client: ssl.VerifyMode) -> ssl.SSLContext:
    """For accepting: shows `svid`; `client` (CERT_REQUIRED or CERT_OPTIONAL) is verified by `roots` (DER)."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, roots)
    context.verify_mode = client
    context.num_tickets = 0
    _show(context, svid)
    return context


def web_context(key_pem: bytes, chain_pem: bytes) -> ssl.SSLContext:
    """For accepting HTTP/1.1 from clients outside the mesh; whose certificate counts, the caller says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, WEB_PROTOCOLS)
    context.num_tickets = 0
    _load(context, key_pem + chain_pem)
    return context


def client_context(roots: Sequence[bytes], svid: Svid | None = None) -> ssl.SSLContext:
    """For connecting: the server's chain must end in `roots`; its SPIFFE ID is for the caller to check."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, roots)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if svid is not None:
        _show(context, svid)
    return context


class ServerTls:
    """The context a listener holds for good, in front of one that is replaced on renewal and bundle change.

    Each new connection takes the latest; those that are open keep what they were verified by.
    """

    def __init__(self, latest: ssl.SSLContext, protocols: Sequence[str] = ("h2",)) -> None:
        """`protocols` are ALPN's, the same as those of `latest`."""
        self._latest = latest
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _restrict(self.context, protocols)
        self.context.verify_mode = latest.verify_mode
        self.context.num_tickets = 0
        self.context.sni_callback = self._switch

    def replace(self, latest: ssl.SSLContext) -> None:
        self._latest = latest

    def _switch(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str, _context: ssl.SSLContext
    ) -> None:
        # Called with and without SNI, before certificates are chosen or verified.
        connection.context = self._latest


def peer_leaf(transport: HasExtraInfo) -> Leaf | None:
    """Read the leaf that the other end proved by this connection's handshake; None where it showed none.

    Raises LeafError where it is no SVID.
    """
    connection = transport.get_extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
        return None
    der = connection.getpeercert(binary_form=True)
    return None if der is None else read_leaf(der)


def _context(protocol: int, roots: Sequence[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    _restrict(context)
    if roots:
        context.load_verify_locations(cadata=b"".join(roots))
    return context


def _restrict(context: ssl.SSLContext, protocols: Sequence[str] = ("h2",)) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(protocols))


def _show(context: ssl.SSLContext, svid: Svid) -> None:
    _load(context, svid.key_pem + b"".join(svid.chain_pem))


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load key and chain. Python's ssl reads them from a file only: one in memory, without a name."""
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(file, "wb", closefd=False) as writer:
            writer.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
