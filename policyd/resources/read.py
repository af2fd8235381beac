"""From a document to an object, readable or not."""

from __future__ import annotations

from typing import Any

from policyd.resources.base import Document, Resource, Unreadable
from policyd.resources.checks import ENGINE, Checks


def read(document: Document, checks: Checks = ENGINE) -> Resource[Any] | Unreadable | None:
    """The object that a document holds; None for a kind that is none of our business (and for a PolicyTest)."""
    raise NotImplementedError
