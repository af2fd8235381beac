"""The pod `witness` beside the books: who may call it, and the three ways to it."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from .mesh import Mesh, tls
from .pods import container, pod, service

APP = Path(__file__).parent / "witness_app.py"
PORT = 7300
WAYS = ("plaintext", "mutual TLS", "outbound")

MANIFEST = (
    pod("witness", "books", container(APP, {"http": PORT}))
    + service("witness", "books", "http")
    + """
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: witness-http, namespace: books}
spec:
  podSelector: {matchLabels: {app: witness}}
  port: http
---
# Anybody may ask, so that what is refused is refused for what it is.
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: witness-anybody, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: witness-http}
  requiredAuthenticationRefs: []
"""
)


@dataclass(frozen=True)
class Way:
    """How a client reaches the witness: an address, and TLS or none."""

    host: str
    port: int
    context: ssl.SSLContext | None = None


def way(mesh: Mesh, name: str) -> Way:
    """One of `WAYS`."""
    if name == "outbound":
        return Way(*mesh.listener("traffic-0", "books/witness:80"))
    host, port = mesh.address("witness-0", PORT)
    if name == "plaintext":
        return Way(host, port)
    return Way(host, port, tls(mesh.svid("books/traffic", mesh.pod("traffic-0").uid)))


def statuses(answers: bytes) -> list[int]:
    """The statuses of all answers in what came back."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
