"""What a source of objects is, whether a folder or a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from policyd.sources.events import Batch


class Source(Protocol):
    """Begin it once, then iterate over its batches; closing ends the iteration."""

    @property
    def name(self) -> str:
        """What it is called in a basis: the same after a restart, and for every replica that reads it."""

    @property
    def counts_itself(self) -> bool:
        """Whether batches say how far they go (`Batch.versions`); else somebody counts them."""

    @property
    def behind(self) -> tuple[str, ...]:
        """What of it isn't followed now, so that its last state counts; in words."""

    async def begin(self) -> Batch:
        """Return all that is there now, as additions. Raises SourceError where it can't be read."""

    def batches(self) -> AsyncIterator[Batch]:
        """Each change, when it comes. Raises SourceError where it can't be followed any more."""

    def hasten(self, kind: str, version: int) -> None:
        """Somebody has seen that version of a kind: find out soon whether it is so."""

    def close(self) -> None:
        """End it."""
