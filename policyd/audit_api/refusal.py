"""How a question is refused: as the API server refuses, with a `v1.Status`."""

from __future__ import annotations

from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class Refusal(Exception):  # noqa: N818 - says what it is
    """A question that isn't answered: an HTTP status, and a line that says why and what would help."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """`retry_after` is in seconds."""
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The `v1.Status`."""
        details = {} if self.retry_after is None else {"details": {"retryAfterSeconds": self.retry_after}}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": _REASONS[self.status],
            "code": self.status,
            **details,
        }


def not_found(name: str) -> Refusal:
    """Return the one answer about what isn't there, and about what is there and is somebody else's."""
    return Refusal(404, f'denials.audit.policyd.dev "{name:.100}" not found')
