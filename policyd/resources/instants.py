"""Instants (RFC 3339) and durations (Go's), as manifests write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_INSTANT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.ASCII)
_LONGEST = timedelta(days=36_500)


def read_instant(value: object) -> datetime:
    """Return an RFC 3339 instant as an aware datetime in UTC, to the microsecond. Raises ValueError."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    wrong = f"{value!r:.60} is no instant: expected RFC 3339, for example 2026-11-21T12:00:00Z"
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(wrong)
    fraction = (found[7] or ".0")[1:7].ljust(6, "0")
    zone = found[8].upper().replace("Z", "+00:00")
    text = f"{found[1]}-{found[2]}-{found[3]}T{found[4]}:{found[5]}:{found[6]}.{fraction}{zone}"
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(wrong) from None


def at_millis(millis: int) -> datetime:
    """Return the instant so many milliseconds after the epoch. Raises OverflowError, ValueError, OSError."""
    return datetime.fromtimestamp(millis / 1000, UTC)


def rfc3339(at: datetime, to: str = "seconds") -> str:
    """Return an instant in UTC, to the second or to `milliseconds`."""
    return at.astimezone(UTC).isoformat(timespec=to).replace("+00:00", "Z")


def read_duration(value: object) -> timedelta:
    """Return a Go duration of hours, minutes, seconds and milliseconds in this order: `1h30m`.

    Raises ValueError.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) and 0 < len(value) <= 32 else None
    wrong = f"{value!r:.60} is no duration: expected for example 12h, 30m or 1h30m"
    if found is None:
        raise ValueError(wrong)
    hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
    if max(hours, minutes, seconds, millis) > 1e9:
        raise ValueError(wrong)
    length = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=millis)
    if length > _LONGEST:
        raise ValueError(wrong)
    return length
