"""Findings of the compiler. Their codes are the reasons of status conditions, so they are written alike."""

from __future__ import annotations

from policyd.index.world import Object
from policyd.model.finding import Finding, Severity


def about(
    found: Object, code: str, field: str, message: str, advice: str, severity: Severity = "error"
) -> Finding:
    """Return a finding about a field of an object; field "" is the whole object."""
    origin = found.position(field) if field else found.origin
    return Finding(severity, code, message, found.key, field, origin, advice)
