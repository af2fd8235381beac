"""What is wrong with something somebody wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policyd.model.names import ObjectKey
from policyd.model.origin import NOWHERE, Origin

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell the author. `field` is a path's text, "" for the whole object.

    `message` states the value and what was expected; `advice` says what to do, "" where the message says it
    all.
    """

    severity: Severity
    code: str
    message: str
    key: ObjectKey | None = None
    field: str = ""
    origin: Origin = NOWHERE
    advice: str = ""

    @property
    def text(self) -> str:
        """One line: `file:line:column: error[code] object field: message; advice`."""
        place = f"{self.origin.text}: " if self.origin.text else ""
        what = " ".join(part for part in (self.key.text if self.key else "", self.field) if part)
        end = f"; {self.advice}" if self.advice else ""
        return f"{place}{self.severity}[{self.code}] {what + ': ' if what else ''}{self.message}{end}"
