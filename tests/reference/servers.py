"""Servers: the ports of some workloads [W2, U3]."""

from dataclasses import dataclass
from typing import Any

from tests.reference.defaults import ACCESS
from tests.reference.policies import OURS
from tests.reference.reading import Selector, Unreadable, choice, fields, integer, items, selector
from tests.reference.workloads import Workload

PROTOCOLS = ("unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS")
UNREAD = ("opaque", "TLS")


@dataclass
class Server:
    """`pods`/`external` say whom it selects; without a port or a selector it can't be placed [U3]."""

    group: str
    namespace: str
    name: str
    age: tuple[Any, ...]
    labels: dict[str, str]
    pods: Selector | None = None
    external: Selector | None = None
    port: int | str | None = None
    protocol: str = "unknown"
    access: str = "deny"
    path_mode: str = "strict"
    websocket: bool = False
    readable: bool = True

    @property
    def full_name(self) -> str:
        return f"server.{self.group}/{self.namespace}/{self.name}"

    @property
    def placed(self) -> bool:
        return self.port is not None and (self.pods is not None or self.external is not None)

    def owns(self, workload: Workload, number: int) -> bool:
        """Whether its selector and port mean this port of the workload; an older Server may come first."""
        wanted = self.external if workload.external else self.pods
        if not self.placed or wanted is None or workload.namespace != self.namespace:
            return False
        return wanted(workload.labels) and self.port is not None and number in workload.numbers(self.port)


def _port(value: Any) -> int | str:
    if isinstance(value, str) and value and len(value) <= 15 and not value.isdigit():
        return value
    return integer(value, 1, 65535)


def read_server(document: dict[str, Any], age: tuple[Any, ...]) -> Server:
    group = document["apiVersion"].split("/")[0]
    metadata = document["metadata"]
    labels = dict(metadata.get("labels") or {})
    server = Server(group, metadata.get("namespace", "default"), metadata["name"], age, labels)
    spec = document.get("spec")
    entry = {k: v for k, v in spec.items() if v is not None} if isinstance(spec, dict) else {}
    try:
        server.port = _port(entry.get("port"))
    except Unreadable:
        server.readable = False
    try:
        _select(server, entry)
    except Unreadable:
        server.readable = False
    try:
        _rest(server, spec)
    except Unreadable:
        server.readable = False
    if not server.readable:
        server.protocol, server.access, server.path_mode = "unknown", "deny", "strict"
        server.websocket = False
    return server


def _select(server: Server, entry: dict[str, Any]) -> None:
    if ("podSelector" in entry) == ("externalWorkloadSelector" in entry):
        raise Unreadable("exactly one of podSelector and externalWorkloadSelector")
    if "podSelector" in entry:
        server.pods = selector(entry["podSelector"])
    else:
        server.external = selector(entry["externalWorkloadSelector"])


def _rest(server: Server, spec: Any) -> None:
    known = ("podSelector", "externalWorkloadSelector", "port", "proxyProtocol", "accessPolicy")
    entry = fields(spec, *known, *(("pathMode", "upgrades") if server.group == OURS else ()))
    server.protocol = choice(entry.get("proxyProtocol", "unknown"), *PROTOCOLS)
    server.access = choice(entry.get("accessPolicy", "deny"), *ACCESS)
    server.path_mode = choice(entry.get("pathMode", "strict"), "strict", "merge", "opaque")
    server.websocket = bool([choice(one, "websocket") for one in items(entry.get("upgrades", []), least=0)])
