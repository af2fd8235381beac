"""A collection (books or authors) over HTTP: read from the database's replica, written to its primary."""

import json
import os
import socket

from web import Answer, serve, tell

COLLECTION = os.environ["COLLECTION"]
ROLE = {os.environ["PRIMARY"]: "the primary", os.environ["REPLICA"]: "the replica"}
TIMEOUT_SECONDS = 3.0


class ClosedError(Exception):
    """The database, or the proxy in front of it, closed the connection without an answer."""


def ask(address: str, line: str) -> object:
    """Send one line to the database at `host:port` and read its answer, a line of JSON."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(line.encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = lines.readline()
    request = " ".join(line.split(" ")[:2])
    tell("database", f"{request} on {ROLE[address]}", 200 if answer else None, None)
    if not answer:
        raise ClosedError(f"{address} closed the connection")
    return json.loads(answer)


def respond(method: str, target: str, _headers: dict[str, str], body: bytes) -> Answer:
    """`GET /books`, `POST /books` with `{"id": …}`, `DELETE /books/<id>`."""
    segments = target.split("?", maxsplit=1)[0].strip("/").split("/")
    if segments[0] != COLLECTION:
        return 404, {"error": f"nothing at {target}"}
    try:
        if method == "POST":
            return 201, ask(os.environ["PRIMARY"], f"PUT {COLLECTION} {json.dumps(json.loads(body))}")
        if method == "DELETE":
            return 200, ask(os.environ["PRIMARY"], f"DEL {COLLECTION} {segments[-1]}")
        return 200, ask(os.environ["REPLICA"], f"ALL {COLLECTION}")
    except json.JSONDecodeError as error:
        return 400, {"error": f"body: {error}"}
    except (OSError, ClosedError) as error:
        return 503, {"error": f"database: {error}"}


if __name__ == "__main__":
    serve([int(os.environ["PORT"])], respond)
