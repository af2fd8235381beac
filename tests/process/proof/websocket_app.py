"""An echo server on the websockets package, at `$POD_IP`, `$PORT`, and once more one port higher."""

import asyncio
import os
import signal

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

LARGEST = 4 * 1024 * 1024


async def _echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # whoever is cut off doesn't say goodbye


async def main() -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    address, port = os.environ["POD_IP"], int(os.environ["PORT"])
    async with (
        serve(_echo, address, port, max_size=LARGEST),
        serve(_echo, address, port + 1, max_size=LARGEST),
    ):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
