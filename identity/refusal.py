"""Why a certificate was refused: a stable code, and one line for a person."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Begins the status message that a client sees; `service.STATUS` says which gRPC status goes with it."""

    REQUEST_INVALID = "REQUEST_INVALID"
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 — a code
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 — a code
    TOKEN_REVIEWER_UNAVAILABLE = "TOKEN_REVIEWER_UNAVAILABLE"  # noqa: S105 — a code
    RATE_LIMITED = "RATE_LIMITED"
    PEER_MISMATCH = "PEER_MISMATCH"
    REVOKED = "REVOKED"
    POD_GONE = "POD_GONE"
    CLUSTER_UNKNOWN = "CLUSTER_UNKNOWN"
    CSR_INVALID = "CSR_INVALID"
    NAME_REFUSED = "NAME_REFUSED"
    NO_ISSUER = "NO_ISSUER"
    CLOCK_REGRESSION = "CLOCK_REGRESSION"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    INTERNAL = "INTERNAL"


class Refused(Exception):  # noqa: N818 — an answer, not a fault of ours
    """No certificate; `detail` never holds a token or a key."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
