"""What tests call: HTTP on port 8080, gRPC on 8081, bytes back on 7000. Listens on all addresses, as most do.

GET /            → 200, JSON: who called, by which headers, and which pod answered
GET /stream      → a line every 100 ms, until somebody hangs up
GET /probe       → 200; the kubelet's
any other path   → as /
"""

import asyncio
import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, "/apps")
import rpc

LINE_SECONDS = 0.1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one write: the second of two would wait for the first one's acknowledgement.
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
            return
        told = {
            "pod": os.environ.get("HOSTNAME", ""),
            "from": self.client_address[0],
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        if self.path == "/probe":
            sys.stdout.write(json.dumps({"probe": told}) + "\n")
            sys.stdout.flush()
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.do_GET()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"5\r\ntick\n\r\n")
            self.wfile.flush()
            time.sleep(LINE_SECONDS)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data)


class Echoes(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def told(_request: rpc.Message) -> rpc.Message:
    """Answer a gRPC call."""
    return {"pod": os.environ.get("HOSTNAME", "")}


if __name__ == "__main__":
    servers = (ThreadingHTTPServer(("", 8080), Handler), Echoes(("", 7000), Echo))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    service = rpc.Service("tests.v1.Service", {"Read": told, "Write": told})
    os.environ["POD_IP"] = "0.0.0.0"  # where rpc listens
    asyncio.run(rpc.serve(service, 8081))
