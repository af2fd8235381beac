"""Denials as they are kept: checked, chained, committed, found again (docs/decisions/0007-audit.md)."""
