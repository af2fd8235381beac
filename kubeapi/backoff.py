"""How long to wait after failures: full jitter, so that many who failed together don't come back together."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.8
"""The first wait is shorter than this; as client-go's reflector begins."""
LONGEST_SECONDS = 30.0
LEAST_SECONDS = 0.1
"""Nobody asks more often than this, whatever the dice say."""
_MOST_DOUBLINGS = 10


class Backoff:
    """Counts failures in a row."""

    def __init__(self) -> None:
        self.failures = 0

    def reset(self) -> None:
        """Something went well."""
        self.failures = 0

    def next(self, asked: float | None = None) -> float:
        """Return the seconds to wait after another failure; `asked` is what the other end said, if it did."""
        bound = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(self.failures, _MOST_DOUBLINGS))
        self.failures += 1
        wait = LEAST_SECONDS + random.uniform(0.0, bound)  # noqa: S311 — spreads load, hides nothing
        return wait if asked is None else max(wait, min(asked, LONGEST_SECONDS))
