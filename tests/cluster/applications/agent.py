"""A pod's hands, through `kubectl exec -i`: a JSON object a line on stdin asks, one on stdout answers.

{"id": 1, "do": "get", …} → {"id": 1, …}. What is asked meanwhile is done meanwhile. Ends with stdin.
"""

import asyncio
import http.client
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, "/apps")
os.environ.setdefault("POD_IP", "127.0.0.1")
import rpc

CALL_SECONDS = 10.0
DECISION = "x-policyd-decision"
MOST_FAULTS = 20
AGAIN_SECONDS = 0.005

Json = dict[str, Any]
_writing = threading.Lock()
_running: dict[str, "Load | Stream"] = {}


class Link:
    """One kept HTTP/1.1 connection; made again where it ended between two requests, as clients do."""

    def __init__(self, url: str, timeout: float = CALL_SECONDS) -> None:
        parts = urlsplit(url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
        self._used = False

    def get(self, method: str = "GET", headers: Json | None = None) -> Json:
        try:
            answer = self._ask(method, headers or {})
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return {"status": None, "error": f"{type(error).__name__}: {error}"}
        told = {"status": answer.status, "decision": answer.getheader(DECISION)}
        return told | {"body": body.decode(errors="replace")[:4096]}

    def _ask(self, method: str, headers: Json) -> http.client.HTTPResponse:
        kept = self._used and self._connection.sock is not None
        try:
            self._connection.request(method, self._target, headers=headers)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if not kept:
                raise
            self._connection.request(method, self._target, headers=headers)
            answer = self._connection.getresponse()
        self._used = True
        return answer

    def close(self) -> None:
        self._connection.close()
        self._used = False


class Load:
    """Requests one after the other on some connections, until it is stopped; what came of them is counted."""

    def __init__(self, asked: Json) -> None:
        self._asked = asked
        self._stop = threading.Event()
        self._statuses: Counter[str] = Counter()
        self._faults: list[Json] = []
        self._counting = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(asked.get("connections", 2))]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        link = Link(self._asked["url"])
        fresh, pause = self._asked.get("fresh", False), self._asked.get("pause", 0.01)
        while not self._stop.wait(pause):
            if fresh:
                link.close()
            answer = link.get()
            with self._counting:
                self._statuses[str(answer["status"])] += 1
                if answer["status"] != self._asked.get("expected", 200) and len(self._faults) < MOST_FAULTS:
                    self._faults.append({"at": time.time(), **answer})
        link.close()

    def stop(self) -> Json:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.told()

    def told(self) -> Json:
        with self._counting:
            return {"statuses": dict(self._statuses), "faults": list(self._faults)}


class Stream:
    """A request whose answer goes on; when the last byte came, and how it ended."""

    def __init__(self, asked: Json) -> None:
        self._began = threading.Event()
        self._asked = asked
        self._told: Json = {"status": None, "bytes": 0, "ended": None}
        self._stopped = False
        self._connection = socket.socket()
        threading.Thread(target=self._read, daemon=True).start()
        self._began.wait(CALL_SECONDS)

    def _read(self) -> None:
        parts = urlsplit(self._asked["url"])
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CALL_SECONDS)
        try:
            connection.request("GET", parts.path)
            answer = connection.getresponse()
            self._told["status"] = answer.status
            while data := answer.read1(4096):
                self._told["bytes"] += len(data)
                self._told["last"] = time.time()
                self._began.set()
                if self._stopped:
                    return
            self._told["how"] = "end"
        except (OSError, http.client.HTTPException) as error:
            self._told["how"] = f"{type(error).__name__}: {error}"
        finally:
            self._told["ended"] = time.time()
            self._began.set()
            connection.close()

    def stop(self) -> Json:
        self._stopped = True
        return self.told()

    def told(self) -> Json:
        return dict(self._told)


def get(asked: Json) -> Json:
    """One request on a connection of its own."""
    link = Link(asked["url"], asked.get("timeout", CALL_SECONDS))
    answer = link.get(asked.get("method", "GET"), asked.get("headers"))
    link.close()
    return answer


def until(asked: Json) -> Json:
    """Do something again and again until it has this status; `at` is when that was begun, None if never."""
    what, deadline = asked["ask"], time.monotonic() + asked["seconds"]
    while True:
        at = time.time()
        answer = _DO[what["do"]](what)
        if answer["status"] == asked["status"]:
            return answer | {"at": at}
        if time.monotonic() > deadline:
            return answer | {"at": None}
        time.sleep(AGAIN_SECONDS)


def tcp(asked: Json) -> Json:
    """Send bytes; `status` is what came back, None where nothing did."""
    try:
        with socket.create_connection(
            (asked["host"], asked["port"]), asked.get("timeout", 5.0)
        ) as connection:
            connection.sendall(asked.get("send", "ping").encode())
            data = connection.recv(4096)
    except OSError as error:
        return {"status": None, "error": f"{type(error).__name__}: {error}"}
    return {"status": data.decode(errors="replace") or None}


def grpc(asked: Json) -> Json:
    """Make a gRPC call; `status` is None where there was no answer."""

    async def call() -> Json:
        caller = rpc.Caller("asked", asked["address"], asked["service"])
        try:
            return {"status": 0, "message": await caller.call(asked["method"])}
        except rpc.CallError as error:
            return {"status": error.status, "decision": error.decision}
        finally:
            caller.close()

    return asyncio.run(call())


def start(asked: Json) -> Json:
    """Begin a load or a stream under a name."""
    kind = Load if asked["kind"] == "load" else Stream
    _running[asked["name"]] = kind(asked)
    return _running[asked["name"]].told()


def told(asked: Json) -> Json:
    """Say what came of it so far."""
    return _running[asked["name"]].told()


def stop(asked: Json) -> Json:
    """End it and say what came of it."""
    return _running.pop(asked["name"]).stop()


_DO = {"get": get, "until": until, "tcp": tcp, "grpc": grpc, "start": start, "told": told, "stop": stop}


def answer(asked: Json, out: Any) -> None:
    """Do one thing and say so."""
    try:
        found = _DO[asked["do"]](asked)
    except Exception as error:  # the test is told
        found = {"fault": f"{type(error).__name__}: {error}"}
    line = json.dumps({"id": asked["id"], **found})
    with _writing:
        out.write(line + "\n")
        out.flush()


if __name__ == "__main__":
    # What the sample's modules tell of their calls isn't for the test.
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line), out), daemon=True).start()
    os._exit(0)
