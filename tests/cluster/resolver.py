"""Names of Services for the node's pods: A records, as a cluster's DNS gives them: the API server knows."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from tests.cluster.place import DOMAIN

PORT = 53
_A, _AAAA, _IN = 1, 28, 1
_NO_SUCH_NAME, _NO_ANSWER_NOW = 3, 2
_TTL_SECONDS = 5
_MOST_BYTES = 512

Addresses = Callable[[str, str], list[str] | None]
"""(Service, namespace) → its addresses; None where there is no such Service. May raise."""


class Resolver:
    """Answers on UDP until `stop`, in a thread of its own."""

    def __init__(self, address: str, addresses: Addresses) -> None:
        self._addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, PORT))
        self._thread = threading.Thread(target=self._serve, daemon=True, name="resolver")
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                question, peer = self._socket.recvfrom(_MOST_BYTES)
            except OSError:
                return
            with contextlib.suppress(OSError, struct.error, IndexError, UnicodeDecodeError):
                self._socket.sendto(self._answer(question), peer)

    def _answer(self, message: bytes) -> bytes:
        number, flags = struct.unpack_from("!HH", message)
        labels, end = _labels(message, 12)
        kind, _ = struct.unpack_from("!HH", message, end)
        question = message[12 : end + 4]
        try:
            found = self._find(labels)
            code = _NO_SUCH_NAME if found is None else 0
        except Exception:  # whatever the API server said: ask again
            found, code = None, _NO_ANSWER_NOW
        records = [socket.inet_aton(each) for each in found or ()] if kind == _A else []
        # An answer, authoritative, recursion as asked for.
        head = struct.pack("!HHHHHH", number, 0x8400 | (flags & 0x0100) | code, 1, len(records), 0, 0)
        answers = [struct.pack("!HHHIH", 0xC00C, _A, _IN, _TTL_SECONDS, 4) + each for each in records]
        return head + question + b"".join(answers)

    def _find(self, labels: list[str]) -> list[str] | None:
        suffix = ["svc", *DOMAIN.split(".")]
        if len(labels) != 2 + len(suffix) or labels[2:] != suffix:
            return None
        return self._addresses(labels[0], labels[1])


def _labels(message: bytes, at: int) -> tuple[list[str], int]:
    """Return a name's labels, and where what follows begins."""
    labels = []
    while message[at]:
        length = message[at]
        labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return labels, at + 1


def service_addresses(request: Callable[[str, str], Any]) -> Addresses:
    """Return a lookup that asks the API server: `request(method, path)`, which raises LookupError for 404.

    While that can't be asked, what was known last goes on, as with a cluster's DNS.
    """
    known: dict[tuple[str, str], list[str]] = {}

    def find(service: str, namespace: str) -> list[str] | None:
        try:
            spec = request("GET", f"/api/v1/namespaces/{namespace}/services/{service}")["spec"]
        except LookupError:
            known.pop((service, namespace), None)
            return None
        except Exception:
            return known[service, namespace]
        has_one = spec.get("clusterIP") not in (None, "", "None")
        known[service, namespace] = [spec["clusterIP"]] if has_one else []
        return known[service, namespace]

    return find
