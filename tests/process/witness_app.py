"""An application on h11, a parser that isn't the proxy's: it answers each request with what it saw of it.

`GET /seen` answers with all targets since the last `POST /forget`, and with what was no HTTP to it. `$POD_IP`
and `$PORT` say where it listens.
"""

import json
import os
import signal
import socketserver
import sys
import threading

import h11

SEEN: list[str] = []
LOCK = threading.Lock()


class Conversation(socketserver.BaseRequestHandler):
    """One connection, request after request."""

    def handle(self) -> None:
        self.connection = h11.Connection(h11.SERVER)
        try:
            while self._serve_one():
                self.connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            _see(f"no HTTP: {error}")
        except (ConnectionError, TimeoutError):
            pass  # the proxy may end a connection at any time

    def _serve_one(self) -> bool:
        request, body = None, b""
        while True:
            event = self._next()
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                self._answer(request, body)
                return self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
            else:
                return False

    def _next(self) -> object:
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            self.connection.receive_data(self.request.recv(65536))
        return event

    def _answer(self, request: h11.Request, body: bytes) -> None:
        target = request.target.decode("latin-1")
        told = _tell(request.method.decode(), target, request, body)
        data = json.dumps(told).encode()
        fields = [("content-type", "application/json")]
        if not target.startswith("/chunked"):  # without a length h11 sends chunks
            fields.append(("content-length", str(len(data))))
        sent = self.connection.send(h11.Response(status_code=200, headers=fields)) or b""
        if request.method != b"HEAD":
            for start in range(0, len(data), 40):
                sent += self.connection.send(h11.Data(data=data[start : start + 40])) or b""
        self.request.sendall(sent + (self.connection.send(h11.EndOfMessage()) or b""))


def _tell(method: str, target: str, request: h11.Request, body: bytes) -> object:
    if target == "/seen":
        with LOCK:
            return list(SEEN)
    if target == "/forget":
        with LOCK:
            SEEN.clear()
        return []
    _see(f"{method} {target}")
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
    return {"method": method, "target": target, "headers": headers, "body": body.decode("latin-1")}


def _see(what: str) -> None:
    with LOCK:
        SEEN.append(what)


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    address = (os.environ["POD_IP"], int(os.environ["PORT"]))
    with socketserver.ThreadingTCPServer(address, Conversation) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
