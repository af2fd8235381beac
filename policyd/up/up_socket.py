"""How other commands reach a running `policyctl up`: a Unix socket (0600), one line of JSON in, one out.

`{"ask": "status"}`, and what policyd's own socket answers of its audit store (`denials`, `denial`, `tables`,
`table`). Nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from policyd.errors import SourceError

MOST_LINE_BYTES = 64 * 1024
MOST_ANSWER_BYTES = 64 * 1024 * 1024
ANSWER_SECONDS = 30.0

Ask = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class UpSocket:
    """Answers by name of the question."""

    def __init__(self, path: Path, asks: Mapping[str, Ask]) -> None:
        self._path = path
        self._asks = asks
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to listen. Raises SourceError where another run listens already."""
        if await is_answering(self._path):
            raise SourceError(f"{self._path}: `policyctl up` is running already: end it first")
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MOST_LINE_BYTES)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._answer(await reader.readline())
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # whoever asked is gone, or asked more than a line can hold
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            question = json.loads(line)
        except ValueError:
            return {"error": "expected one line of JSON"}
        ask = self._asks.get(str(question.get("ask"))) if isinstance(question, dict) else None
        if ask is None:
            return {"error": f"expected ask to be one of {', '.join(self._asks)}"}
        return await ask(question)


async def is_answering(path: Path) -> bool:
    """Whether somebody listens on a socket."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def ask_socket(path: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """Put a question to a socket of this kind. Raises ConnectionError where nobody answers."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path, limit=MOST_ANSWER_BYTES)
            try:
                writer.write(json.dumps(dict(question)).encode() + b"\n")
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"{path}: nobody answers: is `policyctl up` running?") from error
    if not isinstance(answer, dict):
        raise ConnectionError(f"{path}: the answer is no object")
    return answer
