"""policyd beside a real API server that passes questions about denials on to it, and a store with records."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from policyd.audit.chain import Link
from policyd.audit.database import Database
from policyd.audit.keeping import DatabaseStore
from policyd.audit.lite import SqliteDatabase
from policyd.audit.postgres import PostgresDatabase
from policyd.audit.record import Writer
from policyd.audit.retention import Bounds
from policyd.audit.store import Store
from policyd.install.audit_api import READERS, audit_api, audit_rights, audit_secret
from policyd.install.names import POLICYD
from policyd.install.rbac import roles
from tests.api import objects
from tests.api.rig import ApiServer, free_ports

NAMESPACE = "policyd"
ROOT = "/apis/audit.policyd.dev/v1alpha1"
DENIALS = ROOT + "/namespaces/{}/denials"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.05

Json = dict[str, Any]


class NoSigner:
    """Nobody: ends of chains stay unsigned."""

    chain = ()

    def sign(self, message: bytes) -> bytes:
        raise RuntimeError("there is no key")


class Spool:
    """What the proxy of one pod delivers."""

    def __init__(self, store: Store, namespace: str, pod: str = "cart-0", workload: str = "") -> None:
        self.namespace = namespace
        workload = workload or f"deployment/{namespace}/cart"
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/cart"
        self._writer = Writer(identity, f"uid-{namespace}-{pod}", namespace, pod, workload)
        self._store = store
        self._chain = secrets.token_bytes(16)
        self._sequence = 0
        self._head = bytes(32)

    def deny(self, **fields: Any) -> str:
        """Deliver a denial; returns its id."""
        return self.deny_many(1, **fields)[0]

    def deny_many(self, count: int, **fields: Any) -> list[str]:
        """Deliver denials, together."""
        records = [self._record(**fields) for _ in range(count)]
        self.deliver(*records)
        return [record["id"] for record in records]

    def deliver(self, *records: Json) -> None:
        """Deliver records of any kind."""
        links = [self._link(json.dumps(record).encode()) for record in records]
        self._store.append(self._writer, self._chain, links).result(WAIT_SECONDS)

    def _link(self, content: bytes) -> Link:
        self._sequence += 1
        link = Link(self._sequence, self._head, content)
        text = b"policyd.v1.AuditRecord\0" + self._chain + self._sequence.to_bytes(8, "big")
        self._head = hashlib.sha256(text + self._head + content).digest()
        return link

    def _record(self, **fields: Any) -> Json:
        now = datetime.now(UTC)
        return {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": "denial",
            "direction": "inbound",
            "workload": self._writer.workload,
            "namespace": self.namespace,
            "pod": self._writer.pod,
            "port": 80,
            "id": identifier(now),
            "verdict": "deny",
            "reason": "no_matching_rule",
            "status": 403,
            "grpcStatus": None,
            "authorization": None,
            "table": None,
            "facts": None,
            "audit": None,
            "peer": {"ip": "10.0.0.7", "identity": "spiffe://cluster.local/ns/shop/sa/web"},
            "request": {"version": "1.1", "method": "GET", "host": "cart", "path": "/a", "headers": []},
            **fields,
        }


def identifier(at: datetime) -> str:
    """An id as proxies make them (UUIDv7)."""
    text = f"{round(at.timestamp() * 1000):012x}7{secrets.token_hex(2)[:3]}8{secrets.token_hex(8)[:15]}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class AuditPolicyd:
    """One policyd with the rights that install gives it, and the APIService that leads to it."""

    def __init__(self, api: ApiServer, folder: Path, connection: str | None = None) -> None:
        """`connection`: the trail is in this PostgreSQL database."""
        self.api = api
        self.port, self._identity_port = free_ports(2)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "policyd.log"
        objects.create_namespace(api, NAMESPACE)
        objects.create_account(api, NAMESPACE, POLICYD)
        rights = [*roles(POLICYD, NAMESPACE), *audit_rights(NAMESPACE), audit_secret(NAMESPACE)]
        # An API server finds a process on loopback by a Service of this type only.
        service = {"type": "ExternalName", "externalName": "localhost"}
        lookup = {"apiVersion": "v1", "kind": "Service", "spec": service}
        api.apply(*rights, lookup | {"metadata": {"name": POLICYD, "namespace": NAMESPACE}})
        [registration] = audit_api(NAMESPACE)
        registration["spec"]["service"]["port"] = self.port
        api.apply(registration)
        self._database: Database = SqliteDatabase(folder / "state" / "audit")
        if connection is not None:
            (folder / "connection").write_text(connection)
            self._database = PostgresDatabase(folder / "connection")
        self._configure()
        self.store = DatabaseStore(self._database, _OWN, NoSigner(), Bounds())
        self.store.start()

    def replica(self, folder: Path) -> AuditPolicyd:
        """Return another policyd of the same install on the same database; `begin` starts it."""
        other = copy(self)
        other.port, other._identity_port = free_ports(2)
        other._folder, other._log, other._process = folder, folder / "policyd.log", None
        (folder / "connection").write_text((self._folder / "connection").read_text())
        other._configure()
        return other

    def _configure(self) -> None:
        token = objects.account_token(self.api, NAMESPACE, POLICYD)
        (self._folder / "token").write_text("token")
        settings = {
            "trustDomain": "cluster.local",
            "namespace": NAMESPACE,
            "listen": "127.0.0.1:0",
            "cluster": {"kubeconfig": str(self.api.write_kubeconfig("policyd", token))},
            "identity": {"address": f"127.0.0.1:{self._identity_port}"},
            "tokenFile": str(self._folder / "token"),
            "rootsFile": str(self.api.ca),
            "stateDir": str(self._folder / "state"),
            "statusSocket": str(self._folder / "status.sock"),
            "auditApi": {"listen": f"127.0.0.1:{self.port}", "service": POLICYD},
        }
        (self._folder / "state").mkdir(mode=0o700)
        (self._folder / "policyd.json").write_text(json.dumps(settings))

    def start(self) -> None:
        """Start it and wait until the API server can ask it."""
        self.begin()
        self.until_available()

    def begin(self) -> None:
        """Start it."""
        config = str(self._folder / "policyd.json")
        command = [sys.executable, "-m", "policyd.distribute.main", "--config", config]
        if (self._folder / "connection").exists():
            command += ["--audit-postgres", str(self._folder / "connection")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(STOP_SECONDS) == 0, self.log
            self._process = None

    def stop(self) -> None:
        """End it and its store."""
        self.end()
        self.store.close()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def until_available(self) -> None:
        """Wait until the API server says that the API is there."""

        def available() -> bool:
            assert self._process is None or self._process.poll() is None, self.log
            path = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.audit.policyd.dev"
            status = self.api.request("GET", path).get("status") or {}
            return any(
                each["type"] == "Available" and each["status"] == "True"
                for each in status.get("conditions", ())
            )

        until(available, START_SECONDS, lambda: self.log[-3000:])

    def spool(self, namespace: str, pod: str = "cart-0") -> Spool:
        """Return the spool of a new proxy in a namespace."""
        return Spool(self.store, namespace, pod)

    def denials(self, namespace: str, query: str = "") -> Json:
        """What an administrator is told of a namespace, a page of it."""
        found: Json = self.api.request("GET", DENIALS.format(namespace) + query)
        return found

    def reader(self, namespace: str, name: str = "reader") -> Path:
        """Make an account that may read denials of a namespace, and nothing else; returns its kubeconfig."""
        objects.create_account(self.api, namespace, name)
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": READERS}
        binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        self.api.request("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", binding)
        token = objects.account_token(self.api, namespace, name)
        return self.api.write_kubeconfig(f"{namespace}-{name}", token)


_OWN = Writer("spiffe://cluster.local/ns/policyd/sa/policyd", "", "policyd", "policyd", "")


def until(holds: Callable[[], bool], seconds: float = WAIT_SECONDS, said: Callable[[], str] = str) -> None:
    """Wait until something holds; fail where it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it didn't come to hold\n{said()}"
        time.sleep(_POLL_SECONDS)
