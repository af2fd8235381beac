"""How a command ends without an answer: one line on stderr and an exit code, no traceback without --debug."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from kubeapi.errors import AccessError, ApiError
from policyd.cli.exit_codes import ExitCode
from policyd.errors import EngineError, PolicydError


class Failure(click.ClickException):
    """A message and the exit code that goes with it. Several lines where several places are wrong."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"policyctl: {self.message}", file=file or sys.stderr)


_SYSTEM_ERRORS = (
    (PermissionError, ExitCode.FORBIDDEN),
    (FileNotFoundError, ExitCode.NOT_FOUND),
    (ConnectionError, ExitCode.UNREACHABLE),
    (TimeoutError, ExitCode.UNREACHABLE),
    (OSError, ExitCode.USAGE),
)


def failure_of(error: Exception) -> Failure | None:
    """Return what an exception means to the caller; None for what should never have happened."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, EngineError):
        return Failure(f"the engine refused: {error}")
    if isinstance(error, PolicydError | AccessError):
        return Failure(str(error))
    if isinstance(error, ApiError):
        return Failure(str(error), _code_of(error))
    found = next((code for kind, code in _SYSTEM_ERRORS if isinstance(error, kind)), None)
    return Failure(_about(error), found) if found is not None and isinstance(error, OSError) else None


def _code_of(error: ApiError) -> ExitCode:
    if error.not_allowed:
        return ExitCode.FORBIDDEN
    return ExitCode.NOT_FOUND if error.not_found else ExitCode.UNREACHABLE


def _about(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"
