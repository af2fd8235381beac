"""What the small web applications of this sample share: an HTTP/1.1 server, and a call to another one.

Standard library only, so that the sample runs wherever Python does.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = tuple[int, object]
"""Status, and what to send as JSON."""

Respond = Callable[[str, str, dict[str, str], bytes], Answer]
"""Method, target, headers (names in lower case), body."""

CALL_TIMEOUT_SECONDS = 5.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    respond: Respond

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/healthz":
            status, content = 200, {"ok": True}
        else:
            status, content = type(self).respond(self.command, self.path, headers, body)
        data = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 — the names http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: the proxies say who called whom."""


def serve(ports: list[int], respond: Respond) -> None:
    """Answer on `$POD_IP` and each of `ports` until SIGTERM."""
    handler = type("Handler", (_Handler,), {"respond": staticmethod(respond)})
    address = os.environ.get("POD_IP", "127.0.0.1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    servers = [ThreadingHTTPServer((address, port), handler) for port in ports]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


def call(
    callee: str, base: str, method: str, target: str, headers: dict[str, str], body: bytes = b""
) -> Answer:
    """Make one request to `http://host:port` and tell of it; 502 where there was no answer."""
    connection = HTTPConnection(urlsplit(base).netloc, timeout=CALL_TIMEOUT_SECONDS)
    try:
        connection.request(method, target, body=body or None, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        status, content = answer.status, json.loads(data) if data else None
    except (OSError, HTTPException, ValueError) as error:
        status, content = 502, {"error": f"{method} {base}{target}: {error or type(error).__name__}"}
    finally:
        connection.close()
    tell(callee, f"{method} {target}", status, content)
    return status, content


def tell(callee: str, request: str, status: int | None, content: object) -> None:
    """Print what was asked of whom and what came of it, as JSON; status None: the connection was closed."""
    line: dict[str, object] = {"called": callee, "request": request, "status": status}
    if isinstance(content, dict) and "decision" in content:
        line["decision"] = content["decision"]
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
