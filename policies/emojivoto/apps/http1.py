"""HTTP/1.1 for the applications of this sample: a server in a thread of its own, a call, metrics."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tell import tell

CALL_TIMEOUT_SECONDS = 10.0

Answer = tuple[int, object]
"""Status, and the content: text as it is, everything else as JSON."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    respond: Callable[[str], Answer]

    def do_GET(self) -> None:
        status, content = (200, "ok\n") if self.path == "/healthz" else type(self).respond(self.path)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) + "\n"
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain" if text is content else "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: the proxies say who called whom."""


def serve(port: int, respond: Callable[[str], Answer]) -> None:
    """Answer GET on `$POD_IP:port` until the process ends; `respond` gets the target."""
    handler = type("Handler", (_Handler,), {"respond": staticmethod(respond)})
    server = ThreadingHTTPServer((os.environ.get("POD_IP", "127.0.0.1"), port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_metrics(port: int, calls: Mapping[str, int]) -> None:
    """Answer `GET /metrics` with how often each method was called, as Prometheus reads it."""

    def respond(target: str) -> Answer:
        if target != "/metrics":
            return 404, {"error": f"nothing at {target}"}
        lines = [f'emojivoto_calls_total{{method="{method}"}} {count}' for method, count in calls.items()]
        return 200, "\n".join(["# TYPE emojivoto_calls_total counter", *lines, ""])

    serve(port, respond)


def get(callee: str, address: str, target: str) -> Answer:
    """Make one GET to `host:port` and tell of it; status 502 where there was no answer."""
    connection = HTTPConnection(address, timeout=CALL_TIMEOUT_SECONDS)
    status: int | None = None
    content: object = None
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        data = answer.read().decode()
        content = json.loads(data) if answer.getheader("content-type") == "application/json" else data
        status = answer.status
    except (OSError, HTTPException, ValueError) as error:
        content = {"error": f"GET {address}{target}: {error or type(error).__name__}"}
    finally:
        connection.close()
    decision = content.get("decision") if isinstance(content, dict) else None
    tell(callee, f"GET {target}", decision, status=status)
    return status or 502, content
