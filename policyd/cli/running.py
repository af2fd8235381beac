"""The `policyctl up` that runs now: its socket, and questions to it."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.up.run_folder import SOCKET, runtime_folder

ANSWER_SECONDS = 30.0
MOST_ANSWER_BYTES = 64 * 1024 * 1024

CODES = {"unavailable": ExitCode.UNREACHABLE, "unknown": ExitCode.NOT_FOUND, "usage": ExitCode.USAGE}
"""The exit code of an answer that is an error, by its `code`."""


def socket_path() -> Path:
    """Return where `up` listens."""
    return runtime_folder() / SOCKET


def ask_up(question: Mapping[str, Any], path: Path | None = None) -> dict[str, Any]:
    """Put a question to the running `up`. Raises Failure: code 3 where none answers, 5 for `unknown`."""
    at = path or socket_path()
    try:
        answer = json.loads(_exchange(at, json.dumps(dict(question)).encode() + b"\n"))
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise Failure(f"{at}: {error.strerror}", ExitCode.FORBIDDEN) from error
        raise Failure(f"{at}: nobody answers: is `policyctl up` running?", ExitCode.UNREACHABLE) from error
    if not isinstance(answer, dict):
        raise Failure(f"{at}: the answer is no object", ExitCode.UNREACHABLE)
    if "error" in answer:
        raise Failure(str(answer["error"]), CODES.get(str(answer.get("code")), ExitCode.NOT_FOUND))
    return answer


def _exchange(path: Path, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(path))
        connection.sendall(question)
        with connection.makefile("rb") as answers:
            return answers.readline(MOST_ANSWER_BYTES)
