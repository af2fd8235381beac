"""A database of JSON documents over TCP, a line for a line; writes on port 5432 only, reads also on 5433.

ALL <collection>            → [document, …]
PUT <collection> <document> → the document; it needs an `id`
DEL <collection> <id>       → {"deleted": true|false}
"""

import asyncio
import contextlib
import json
import os
import signal

MAX_LINE_BYTES = 64 * 1024
Documents = dict[str, dict[str, object]]

documents: dict[str, Documents] = {
    "books": {"1": {"id": "1", "title": "The Left Hand of Darkness"}, "2": {"id": "2", "title": "Kindred"}},
    "authors": {"1": {"id": "1", "name": "Ursula K. Le Guin"}, "2": {"id": "2", "name": "Octavia E. Butler"}},
}


def execute(line: str, writable: bool) -> object:
    """Do what one line asks for. Raises KeyError and ValueError where it can't be done."""
    verb, collection, *rest = line.split(" ", 2)
    rows = documents[collection]
    if verb == "ALL":
        return list(rows.values())
    if not writable:
        raise ValueError("the replica is read-only")
    if verb == "PUT":
        document = json.loads(rest[0])
        rows[str(document["id"])] = document
        return document
    if verb == "DEL":
        return {"deleted": rows.pop(rest[0], None) is not None}
    raise ValueError(f"{verb}: expected ALL, PUT or DEL")


async def serve(port: int, writable: bool) -> None:
    """Answer on `$POD_IP:port` until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    reply = execute(line.decode().strip(), writable)
                except (LookupError, ValueError, TypeError) as error:
                    reply = {"error": str(error)}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line beyond the limit: either way there is nobody to answer
        finally:
            writer.close()

    address = os.environ.get("POD_IP", "127.0.0.1")
    server = await asyncio.start_server(answer, address, port, limit=MAX_LINE_BYTES)
    async with server:
        await server.serve_forever()


async def main() -> None:
    """Serve both ports until SIGTERM."""
    both = asyncio.gather(serve(5432, writable=True), serve(5433, writable=False))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, both.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await both


if __name__ == "__main__":
    asyncio.run(main())
