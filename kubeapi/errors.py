"""What goes wrong with an API server."""

from __future__ import annotations

import msgspec

UNREACHABLE = "Unreachable"
"""The reason where there was no answer at all."""
UNUSABLE = "Unusable"
"""The reason where the answer isn't what an API server says: too long, not JSON, cut off."""
_MOST_MESSAGE = 1024


class AccessError(Exception):
    """Nobody said where the API server is or who we are, or it can't be read; the message says which."""


class ApiError(Exception):
    """The API server refused, or there was no usable answer.

    `status` is HTTP's, 0 where there was no answer; `reason` is the API's word for it (`NotFound`,
    `Conflict`, `Expired`, ...) or one of ours; `retry_after` is in seconds, None where nobody said.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def unreachable(self) -> bool:
        """There was no answer."""
        return self.status == 0

    @property
    def not_allowed(self) -> bool:
        """We aren't known there, or may not do this."""
        return self.status in {401, 403}

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        return self.status == 409

    @property
    def expired(self) -> bool:
        """The resource version asked for is gone: only a new list helps."""
        return self.status == 410 or self.reason in {"Expired", "Gone"}

    @property
    def too_new(self) -> bool:
        """The resource version asked for lies ahead of what this API server has seen."""
        return self.status == 504 and "resource version" in self.message.lower()


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: int = 0
    causes: list[_Cause] = []


class _Status(msgspec.Struct):
    """`v1.Status`, as far as it is read."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_DECODER = msgspec.json.Decoder(_Status)


def refused(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """Return the error that an answer with `status` means; its body is a `v1.Status`, or anything."""
    try:
        told = _DECODER.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        told = _Status(message=body[:_MOST_MESSAGE].decode("utf-8", "replace").strip())
    seconds = float(told.details.retry_after_seconds) if told.details else 0.0
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        seconds = float(retry_after[:6])
    reason = told.reason or f"HTTP{status}"
    if told.details and any(each.reason == "ResourceVersionTooLarge" for each in told.details.causes):
        told.message = f"{told.message}: resource version too large"
    return ApiError(status, reason, told.message[:_MOST_MESSAGE] or f"HTTP {status}", seconds or None)


def in_stream(body: bytes) -> ApiError:
    """Return the error that an ERROR event of a watch carries: a `v1.Status` with a code of its own."""
    try:
        code = _DECODER.decode(body).code
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        code = 0
    return refused(code or 500, body)
