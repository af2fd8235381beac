"""The pods `reader`, which writes down what it reads, and `caller`; and the ways between them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.process import pods
from tests.process.mesh import Mesh, tls
from tests.process.witness import Way

APP = Path(__file__).parent / "reader_app.py"
PORT = 7600
READ_BY_POLICY = ("x-deny", "x-env", "x-role")
"""What the policies below read; lower case and sorted."""

CALLER = """
apiVersion: v1
kind: Namespace
metadata: {name: proof}
---
""" + pods.pod("caller", "proof", pods.SLEEPER)


def pod(name: str, app: Path, first: int, ports: Sequence[str]) -> str:
    """A pod's manifests: its ports one after the other."""
    numbered = {port: first + n for n, port in enumerate(ports)}
    return pods.pod(name, "proof", pods.container(app, numbered)) + pods.service(name, "proof", *ports)


def server(name: str, port: str, *more: str) -> str:
    """A Server that anybody may ask, whatever is asked, unless it says `x-deny`."""
    rest = "".join(f"\n  {line}" for line in more)
    return f"""
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {{name: {name}-{port}, namespace: proof}}
spec:
  podSelector: {{matchLabels: {{app: {name}}}}}
  port: {port}{rest}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: {name}-{port}-anybody, namespace: proof}}
spec:
  targetRef: {{group: policyd.dev, kind: Server, name: {name}-{port}}}
  requiredAuthenticationRefs: []
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: {name}-{port}-denied, namespace: proof}}
spec:
  action: Deny
  targetRef: {{group: policyd.dev, kind: Server, name: {name}-{port}}}
  requiredAuthenticationRefs: []
  when:
    - header: {{name: x-deny, exists: true}}
---
# Never met: it is here so that these headers are read.
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: {name}-{port}-read, namespace: proof}}
spec:
  action: Deny
  targetRef: {{group: policyd.dev, kind: Server, name: {name}-{port}}}
  requiredAuthenticationRefs: []
  when:
    - header: {{name: x-role, in: [never]}}
    - header: {{name: x-env, in: [never]}}
"""


MANIFEST = (
    CALLER
    + pod("reader", APP, PORT, ["http1", "http2"])
    + server("reader", "http1")
    + server("reader", "http2")
)


def way(mesh: Mesh, name: str, http2_application: bool = False) -> Way:
    """To the reader: `plaintext`, `mutual TLS` (HTTP/1 in it), `carried` (HTTP/2 in it), `two proxies`."""
    if name == "two proxies":
        return Way(*mesh.listener("caller-0", "proof/reader:81" if http2_application else "proof/reader:80"))
    host, port = mesh.address("reader-0", PORT + http2_application)
    if name == "plaintext":
        return Way(host, port)
    alpn = "policyd/1+h2" if name == "carried" else "policyd/1+http1"
    return Way(host, port, tls(mesh.svid("proof/caller", mesh.pod("caller-0").uid), alpn))


@dataclass(frozen=True)
class Message:
    """A request or an answer as some parser reads it: names in lower case, values without blanks around."""

    first: tuple[bytes, ...]
    """Method, target and authority; or the status."""
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    trailers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Read:
    """What the reader read of one request, byte for byte where that can be had, and what it answered."""

    number: int
    request: Message
    raw: bytes | None
    left: int
    answer: Message


async def written(mesh: Mesh) -> tuple[list[Read], list[str]]:
    """All that the reader read since the last time, asked past its proxy; and what was no HTTP to it."""
    host = mesh.pod("reader-0").addresses.application
    reader, writer = await asyncio.open_connection(host, PORT + 2)
    told: list[dict[str, Any]] = json.loads(await reader.read())
    writer.close()
    return [_read(each) for each in told if "error" not in each], [
        f"{each['error']} {base64.b64decode(each['raw'])!r}" for each in told if "error" in each
    ]


def _read(told: dict[str, Any]) -> Read:
    fields = pairs(told["fields"])
    authority = base64.b64decode(told["authority"]) if told["version"] == 2 else _host(fields)
    first = (base64.b64decode(told["method"]), base64.b64decode(told["target"]), authority)
    body = base64.b64decode(told["body"])
    answer = told["answer"]
    return Read(
        told["number"],
        Message(first, fields, body, pairs(told["trailers"])),
        base64.b64decode(told["raw"]) if "raw" in told else None,
        told["left"],
        Message(
            (b"%d" % answer["status"],),
            pairs(answer["fields"]),
            base64.b64decode(answer["body"]),
            pairs(answer["trailers"]),
        ),
    )


def pairs(told: Iterable[Sequence[str]]) -> tuple[tuple[bytes, bytes], ...]:
    """Fields that were told as JSON."""
    return tuple((base64.b64decode(name).lower(), base64.b64decode(value)) for name, value in told)


def _host(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"|".join(value for name, value in fields if name == b"host")
