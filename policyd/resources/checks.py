"""What only the engine can judge: regular expressions, identity forms, the normal form of paths.

The engine is asked through a protocol, so that whoever reads resources can do it without the compiled
extension.
"""

from __future__ import annotations

from typing import Protocol


class Checks(Protocol):
    """The engine's judgement of a policy's values.

    Each raises an Exception whose text says what was expected.
    """

    def regex(self, pattern: str) -> None:
        """Semantics V7."""

    def identity(self, form: str) -> None:
        """Semantics I1."""

    def path(self, path: str) -> str:
        """Return the path in the gate's normal form; raises where it isn't in it (semantics V5)."""

    def host(self, host: str) -> str:
        """Give the host in the gate's normal form; raises where it is none (semantics V6)."""


class EngineChecks:
    """The engine itself.

    Imported when the first value is judged, because most commands' help needs no engine.
    """

    def regex(self, pattern: str) -> None:
        from policyd import engine  # noqa: PLC0415

        engine.check_regex(pattern)

    def identity(self, form: str) -> None:
        from policyd import engine  # noqa: PLC0415

        engine.check_identity(form)

    def path(self, path: str) -> str:
        from policyd import engine  # noqa: PLC0415

        return engine.normal_path(path)

    def host(self, host: str) -> str:
        from policyd import engine  # noqa: PLC0415

        return engine.normal_host(host)


ENGINE: Checks = EngineChecks()
