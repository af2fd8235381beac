"""Every exception policyd raises on purpose.

    PolicydError
    ├── ResourceError          a value that can't be one of ours
    ├── SourceError            a place that resources come from can't be read
    ├── AuditError             the audit trail
    │   ├── ChainRefused       what a writer delivered doesn't continue its chain
    │   └── StoreUnavailable   nothing can be kept or read now
    ├── CanaryError            the canaries can't be tried
    └── EngineError            raised by the Rust engine (through policyd._engine)
        ├── SnapshotError      bytes that aren't a snapshot, rows that can't become one
        ├── RequestRefused     the gate's refusal: rule, offset, field
        ├── PatternError       a regular expression outside the bounds (semantics V7)
        └── IdentityFormError  not a form of identity (semantics I1)

They carry data and do nothing. What is wrong with one object of many is no exception but a
`policyd.model.finding.Finding`: one bad object must not hide the others.
"""

from __future__ import annotations


class PolicydError(Exception):
    """The root: whoever catches it has caught everything policyd raises on purpose."""


class ResourceError(PolicydError):
    """A value that can't be one of ours, outside of any object (a command's argument, a name)."""


class SourceError(PolicydError):
    """A file, folder or cluster that can't be read; the message is one line that says what to do."""


class CanaryError(PolicydError):
    """The canaries can't be tried; the message says why, `advice` what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class AuditError(PolicydError):
    """The audit trail can't be written or read; the message is one line."""


class ChainRefused(AuditError):  # noqa: N818 - says what happened
    """What a writer delivered isn't kept, and nothing more of its chain will be."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class StoreUnavailable(AuditError):  # noqa: N818 - says what happened
    """The store can't be written or read now: the disk is full, read-only or gone."""


class EngineError(PolicydError):
    """The engine refused or failed."""


class SnapshotError(EngineError):
    """Bytes that aren't a snapshot in canonical form, or rows that can't become one."""


class RequestRefused(EngineError):  # noqa: N818 - says what happened, as the engine does
    """The gate's refusal of a request head."""

    def __init__(self, rule: str, offset: int | None = None, field: str | None = None) -> None:
        super().__init__(rule, offset, field)
        self.rule = rule
        self.offset = offset
        self.field = field

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        what = "" if not self.field else f" ({self.field})"
        return f"refused by gate rule {self.rule}{where}{what}"


class PatternError(EngineError):
    """A regular expression that doesn't compile or is over its bounds (semantics V7)."""


class IdentityFormError(EngineError):
    """Text that is no form of identity (semantics I1)."""
