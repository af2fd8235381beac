"""A question to the engine: who asks what of which port, and when (decision record 1, `A question`)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from policyd.compile.authorizations import millis
from policyd.errors import ResourceError
from policyd.index.shapes import Shape
from policyd.model.names import is_namespace_name, is_object_name

DEFAULT_IP = "10.0.0.7"
"""The address of a client of whom nothing else is said."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer. `identity` is a SPIFFE ID, None without certificate; instants are in ms since the epoch."""

    ip: str = DEFAULT_IP
    identity: str | None = None
    pod_uid: str | None = None
    certificate_sha256: str | None = None
    not_before: int | None = None
    not_after: int | None = None

    def encode(self) -> dict[str, object]:
        given = {
            "identity": self.identity,
            "podUID": self.pod_uid,
            "certificateSHA256": self.certificate_sha256,
            "notBefore": self.not_before,
            "notAfter": self.not_after,
        }
        return {"ip": self.ip, **{name: value for name, value in given.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the table doesn't know of the pod (semantics W1)."""

    uid: str = ""
    addresses: tuple[str, ...] = ()
    probe_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """`request` is one of the forms of decision record 1, as plain values."""

    port: int
    at: datetime
    caller: Caller
    request: Mapping[str, Any]
    facts: Facts = Facts()
    table_age_millis: int = 0

    def encode(self) -> bytes:
        facts = {
            "uid": self.facts.uid,
            "addresses": self.facts.addresses,
            "probeAddresses": self.facts.probe_addresses,
        }
        return msgspec.json.encode(
            {
                "port": self.port,
                "at": millis(self.at),
                "tableAgeMillis": self.table_age_millis,
                "facts": facts,
                "from": self.caller.encode(),
                "request": self.request,
            }
        )

    def by(self, caller: Caller) -> Question:
        """Return the same question, asked by somebody else."""
        return replace(self, caller=caller)

    def about(self, request: Mapping[str, Any]) -> Question:
        """Return the same caller's question about another request."""
        return replace(self, request=request)

    @property
    def is_http(self) -> bool:
        return not self.request.keys() & {"tcp", "tls"}


def port_number(written: str, shape: Shape | None) -> int:
    """Read a port: a number, or the name of a container port of the shape. Raises ResourceError."""
    if written.isascii() and written.isdigit():
        number = int(written)
        if not 1 <= number <= 65535:
            raise ResourceError(f"port {written}: expected a number from 1 to 65535")
        return number
    declared = () if shape is None else shape.ports
    numbers = sorted({port.number for port in declared if port.name == written})
    if not numbers:
        names = ", ".join(sorted({port.name for port in declared if port.name})) or "none is named"
        raise ResourceError(f"port {written!r}: expected a number or the name of a container port: {names}")
    return numbers[0]


def account_identity(written: str, trust_domain: str) -> str:
    """Read `namespace/name` of a service account as its SPIFFE ID. Raises ResourceError."""
    namespace, slash, name = written.partition("/")
    if not slash or not is_namespace_name(namespace) or not is_object_name(name):
        raise ResourceError(f"{written!r} names no service account: expected namespace/name")
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{name}"


def raw_request(head: str) -> dict[str, object]:
    """Return the request of the exact bytes of an HTTP/1 head; each character up to U+00FF is one byte."""
    return {"raw": base64.b64encode(head.encode("latin-1")).decode("ascii")}


def http_request(
    method: str, path: str, host: str, headers: list[tuple[str, str]], version: str = "1.1"
) -> dict[str, object]:
    """Return an HTTP request; `path` is the target as sent, query included."""
    fields = {"version": version, "method": method, "host": host, "path": path, "headers": headers}
    return {"http": fields}


def grpc_request(service: str, method: str, host: str, headers: list[tuple[str, str]]) -> dict[str, object]:
    """Return a gRPC request over HTTP/2."""
    return {"grpc": {"service": service, "method": method, "host": host, "headers": headers}}
