"""A server that a test closes while somebody connects."""

from __future__ import annotations

import asyncio
import gc
import socket

from tests.listening import accept_no_more


async def test_what_was_accepted_when_a_server_closes_is_closed_too() -> None:
    """pytest fails this test for a socket that nobody closed; which turn of the loop leaves one varies."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for turns in range(12):
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        calling = [socket.create_connection(address) for _ in range(3)]
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        await accept_no_more(server.sockets)
        server.close()
        for each in calling:
            each.close()
    await asyncio.sleep(0.01)
    gc.collect()
