"""How a command ends without an answer: one line on stderr and an exit code, no traceback without --debug."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from policyd.cli.exit_codes import ExitCode
from policyd.errors import EngineError, PolicydError, ResourceError, SourceError


class Failure(click.ClickException):
    """A message and the exit code that goes with it. Several lines where several places are wrong."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.exit_code = code

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"policyctl: {self.message}", file=file or sys.stderr)


def failure_of(error: Exception) -> Failure | None:
    """Return what an exception means to the caller; None for what should never have happened."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, SourceError | ResourceError):
        return Failure(str(error))
    if isinstance(error, EngineError):
        return Failure(f"the engine refused: {error}")
    if isinstance(error, PolicydError):
        return Failure(str(error))
    if isinstance(error, PermissionError):
        return Failure(_about(error), ExitCode.FORBIDDEN)
    if isinstance(error, FileNotFoundError):
        return Failure(_about(error), ExitCode.NOT_FOUND)
    if isinstance(error, ConnectionError | TimeoutError):
        return Failure(_about(error), ExitCode.UNREACHABLE)
    if isinstance(error, OSError):
        return Failure(_about(error))
    return None


def _about(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"
