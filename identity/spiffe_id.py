"""SPIFFE IDs, parsed once and strictly (SPIFFE-ID.md §2): nothing is normalised, nothing has two readings.

The only module of `identity` that other packages import.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_ID_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255
MAX_DNS_NAME_BYTES = 253
_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


class SpiffeIdError(ValueError):
    """Not a SPIFFE ID, or not one of ours; the message names the value and what was expected."""


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """A trust domain's name, e.g. `cluster.local`."""

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES or not _TRUST_DOMAIN.fullmatch(self.name):
            expected = f"1 to {MAX_TRUST_DOMAIN_BYTES} of a-z 0-9 . _ -"
            raise SpiffeIdError(f"trust domain {self.name[:300]!r}: expected {expected}")

    def __str__(self) -> str:
        return self.name

    @property
    def uri(self) -> str:
        """The trust domain's own SPIFFE ID, the one without a path: what a CA certificate carries."""
        return f"{_SCHEME}{self.name}"


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A workload's SPIFFE ID; `path` begins with `/` and is never empty."""

    trust_domain: TrustDomain
    path: str

    def __post_init__(self) -> None:
        text = f"{self.trust_domain.uri}{self.path}"
        if len(text) > MAX_ID_BYTES:
            raise SpiffeIdError(f"SPIFFE ID of {len(text)} bytes: expected at most {MAX_ID_BYTES}")
        root, *segments = self.path.split("/")
        if root or not segments or not all(_is_segment(segment) for segment in segments):
            raise SpiffeIdError(f"SPIFFE ID {text!r}: expected a path of /segments of A-Z a-z 0-9 . _ -")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read `spiffe://<trust domain>/<path>`; raises SpiffeIdError."""
        if not text.startswith(_SCHEME):
            raise SpiffeIdError(f"SPIFFE ID {text[:300]!r}: expected it to begin with {_SCHEME}")
        name, slash, rest = text.removeprefix(_SCHEME).partition("/")
        return cls(TrustDomain(name), f"{slash}{rest}")

    @classmethod
    def of_service_account(cls, trust_domain: TrustDomain, namespace: str, name: str) -> SpiffeId:
        """`spiffe://<td>/ns/<namespace>/sa/<name>`, names as Kubernetes allows them; raises SpiffeIdError."""
        if not _DNS_LABEL.fullmatch(namespace):
            raise SpiffeIdError(f"namespace {namespace[:300]!r}: expected a DNS label")
        if len(name) > MAX_DNS_NAME_BYTES or not _is_dns_name(name):
            raise SpiffeIdError(f"service account {name[:300]!r}: expected a DNS subdomain")
        return cls(trust_domain, f"/ns/{namespace}/sa/{name}")

    def __str__(self) -> str:
        return f"{self.trust_domain.uri}{self.path}"

    @property
    def service_account(self) -> tuple[str, str] | None:
        """(namespace, name) where the path is of our form, else None."""
        match self.path.split("/"):
            case ["", "ns", namespace, "sa", name]:
                return namespace, name
            case _:
                return None

    @property
    def dns_name(self) -> str | None:
        """`<sa>.<ns>.sa.<td>` for ordinary TLS clients; None where it is no DNS name (too long, has `_`)."""
        if (found := self.service_account) is None:
            return None
        name = f"{found[1]}.{found[0]}.sa.{self.trust_domain}"
        return name if len(name) <= MAX_DNS_NAME_BYTES and _is_dns_name(name) else None


def _is_segment(segment: str) -> bool:
    return segment not in (".", "..") and _SEGMENT.fullmatch(segment) is not None


def _is_dns_name(name: str) -> bool:
    return all(_DNS_LABEL.fullmatch(label) for label in name.split("."))
