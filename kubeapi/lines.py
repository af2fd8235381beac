"""A stream of bytes as lines."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kubeapi.errors import UNUSABLE, ApiError


async def lines(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """Yield each line without its end. Raises ApiError for one of more than `most` bytes.

    What follows the last line's end is the beginning of a line that never came, and is dropped.
    """
    begun: list[bytes] = []
    size = 0
    async for chunk in chunks:
        pieces = chunk.split(b"\n")
        for piece in pieces[:-1]:
            if size + len(piece) > most:
                raise _too_long(most)
            yield b"".join((*begun, piece)) if begun else piece
            begun, size = [], 0
        size += len(pieces[-1])
        if size > most:
            raise _too_long(most)
        if pieces[-1]:
            begun.append(pieces[-1])


def _too_long(most: int) -> ApiError:
    return ApiError(200, UNUSABLE, f"a line of more than {most} bytes in a watch")
