"""`policyd-canary serve` and `policyd-canary call`: what runs in the canaries' pods.

The standard library alone: it starts in a moment, and nothing of it can be what is being tested. What it is
told comes from the environment, as pods have it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NONCE = "POLICYD_CANARY_NONCE"
"""What the server says, so that nobody else's answer counts."""
LISTEN = "POLICYD_CANARY_LISTEN"
"""`address:port` of the server."""
TARGET = "POLICYD_CANARY_TARGET"
"""`address:port` that is called."""
SOURCE = "POLICYD_CANARY_SOURCE"
"""The caller's own address, where it is to be bound; else the kernel's choice."""
CALLS = "POLICYD_CANARY_CALLS"
"""`{"name": "path", …}` in JSON: what is asked for, byte for byte."""
SECONDS = "POLICYD_CANARY_SECONDS"
"""How long an answer is waited for, over all attempts."""

DECISION = "x-policyd-decision"
ATTEMPT_SECONDS = 2.0
PAUSE_SECONDS = 0.1
MOST_BODY_BYTES = 4096


class _Application(BaseHTTPRequestHandler):
    """Says who calls, as an application sees it."""

    protocol_version = "HTTP/1.1"
    timeout = 10.0
    nonce = ""

    def do_GET(self) -> None:
        body = json.dumps({"nonce": self.nonce, "peer": self.client_address[0]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: stdout is for results."""


def serve(environ: Mapping[str, str]) -> None:
    """Answer until SIGTERM."""
    host, _, port = environ[LISTEN].rpartition(":")
    handler = type("Application", (_Application,), {"nonce": environ[NONCE]})
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = type("Server", (ThreadingHTTPServer,), {"address_family": family})((host, int(port)), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    _until_stopped()


def call(environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Ask for each path until there is an answer that says something, tell of each, and wait for SIGTERM."""
    deadline = time.monotonic() + float(environ.get(SECONDS, "30"))
    calls: Mapping[str, str] = json.loads(environ[CALLS])
    for name, path in calls.items():
        say(json.dumps({"canary": name, **_answered(environ, path, deadline)}))
    _until_stopped()


def _answered(environ: Mapping[str, str], path: str, deadline: float) -> dict[str, Any]:
    """Try again while nobody answers, or whoever answers isn't ready: the last attempt is what counts."""
    began, tries = time.monotonic(), 0
    while True:
        tries += 1
        found = attempt(environ, path)
        status = found["status"]
        if (status is not None and status < 500) or time.monotonic() >= deadline:
            return found | {"tries": tries, "millis": round((time.monotonic() - began) * 1000)}
        time.sleep(PAUSE_SECONDS)


def attempt(environ: Mapping[str, str], path: str) -> dict[str, Any]:
    """Make one request, and say what came of it: nobody's fault is an exception here."""
    host, _, port = environ[TARGET].rpartition(":")
    found: dict[str, Any] = dict.fromkeys(("status", "decision", "application", "source", "error"))
    source = (environ[SOURCE], 0) if environ.get(SOURCE) else None
    connection = http.client.HTTPConnection(host, int(port), ATTEMPT_SECONDS, source)
    try:
        connection.connect()
        found["source"] = connection.sock.getsockname()[0]
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        found["status"], found["decision"] = answer.status, answer.getheader(DECISION)
        found["application"] = _told(answer.read(MOST_BODY_BYTES), environ[NONCE])
    except (OSError, http.client.HTTPException) as error:
        found["error"] = str(error) or type(error).__name__
    finally:
        connection.close()
    return found


def _told(body: bytes, nonce: str) -> dict[str, Any] | None:
    """Return what our own application said; None where somebody else answered."""
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) and told.get("nonce") == nonce else None


def _until_stopped() -> None:
    """Wait for SIGTERM, which nothing else would heed in a container's first process."""
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def main() -> int:
    """Run the role that the command line names."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    role = sys.argv[1:]
    if role == ["serve"]:
        serve(os.environ)
    elif role == ["call"]:
        call(os.environ, lambda line: print(line, flush=True))  # noqa: T201 - the pod's log is the answer
    else:
        sys.stderr.write("usage: policyd-canary serve|call\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
