"""How policyd ends a stream: a gRPC status and a message that begins with a stable code."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError


def permission_denied(code: str, detail: str) -> GRPCError:
    """Say that the caller isn't who may have this."""
    return GRPCError(Status.PERMISSION_DENIED, f"{code}: {detail}")


def too_slow(code: str, detail: str) -> GRPCError:
    """Say that the proxy doesn't keep up; it may come back."""
    return GRPCError(Status.DEADLINE_EXCEEDED, f"{code}: {detail}")


def exhausted(code: str, detail: str) -> GRPCError:
    """Too many at once."""
    return GRPCError(Status.RESOURCE_EXHAUSTED, f"{code}: {detail}")
