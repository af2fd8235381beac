"""What the tests do with a running mesh: requests as somebody, denials by id, certificates of every kind."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from identity.material import load_material
from identity.profile import LeafPlan, leaf_builder, new_serial
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.up.replica import ADMIN_PORT, Replica
from policyd.up.run import Running
from servicekit.svid import Svid

WAIT_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; status 0 where the connection ended without one."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def decision(self) -> str:
        return self.headers["x-policyd-decision"]


NOTHING = Answer(0, {}, b"")


@dataclass(frozen=True)
class Mesh:
    """A run of a sample, with everything in it within reach."""

    up: Running

    def pod(self, name: str) -> Replica:
        """The pod of a name, in whichever namespace the sample has it."""
        (found,) = [replica for replica in self.up.kubelet.replicas.values() if replica.name == name]
        return found

    def address(self, pod: str, port: int) -> tuple[str, int]:
        """Where a pod is called by others."""
        return self.pod(pod).addresses.proxy, port

    def listener(self, pod: str, service: str) -> tuple[str, int]:
        """Where a pod's own applications call a Service: requests made there carry the pod's identity."""
        replica = self.pod(pod)
        found = next(each for each in replica.listeners if each.target == service)
        return replica.addresses.application, found.listen

    async def denial(self, decision: str) -> dict[str, Any]:
        """The line that a proxy wrote about a decision."""
        kubelet = self.up.kubelet
        async with asyncio.timeout(WAIT_SECONDS):
            while (found := kubelet.records.find(decision)) is None:
                kubelet.recorded.clear()
                await kubelet.recorded.wait()
        return found

    async def denial_that(self, **fields: object) -> dict[str, Any]:
        """The newest line with these fields, for those whose id no client sees."""
        kubelet = self.up.kubelet
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                for record in reversed(kubelet.records.last(2000)):
                    if all(record.get(name) == value for name, value in fields.items()):
                        return record
                kubelet.recorded.clear()
                await kubelet.recorded.wait()

    def forget_records(self) -> None:
        """Leave out what identity and policyd have said until now."""
        while not self.up.records.empty():
            self.up.records.get_nowait()

    async def service_record(self, event: str) -> dict[str, Any]:
        """The next log record of identity or policyd of that event."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                record = await self.up.records.get()
                if record.get("event") == event:
                    return record

    async def ready_again(self, replica: Replica) -> None:
        """Wait until a restarted pod is ready."""
        await self.until_answering(replica.name)
        await self.up.all_ready(30)

    async def until_answering(self, pod: str) -> None:
        """Wait until a pod's proxy listens again."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (await http(self.address(pod, 7000), "GET", "/")) == NOTHING:
                await asyncio.sleep(0.01)  # a listener's start has no event of its own

    async def metric(self, pod: str, name: str) -> float:
        """The sum of a proxy's metric over its labels."""
        address = (self.pod(pod).addresses.application, ADMIN_PORT)
        text = (await http(address, "GET", "/metrics")).body.decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return sum(float(value) for key, value in lines if key.partition("{")[0] == name)

    async def until_metric(self, pod: str, name: str, value: float) -> None:
        """Wait until a proxy's metric has this value."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.metric(pod, name) != value:
                await asyncio.sleep(0.02)  # a metric's change has no event of its own

    async def direct(self, pod: str, account: str, method: str, path: str) -> Answer:
        """A request with a certificate of an account, made at the pod itself."""
        context = tls(self.svid(account))
        async with asyncio.timeout(WAIT_SECONDS):
            while (answer := await http(self.address(pod, 7000), method, path, context=context)) == NOTHING:
                await asyncio.sleep(0.01)  # it listens before it has its certificate
        return answer

    async def pods_are(self, names: set[str]) -> None:
        """Wait until exactly these pods are there and ready."""
        kubelet = self.up.kubelet
        async with asyncio.timeout(30):
            while {replica.name for replica in kubelet.replicas.values()} != names or kubelet.unready:
                kubelet.changed.clear()
                await kubelet.changed.wait()
        await self.up.all_ready(30)

    def svid(
        self, account: str, uid: str | None = None, age: timedelta = timedelta(0), root: Path | None = None
    ) -> Svid:
        """A certificate of this mesh's root (or another's); `age` moves its hour into the past."""
        folder = root or self.up.run.root
        trust_domain = TrustDomain(self.up.trust_domain)
        return make_svid(folder, trust_domain, account, uid, age)


def make_svid(folder: Path, trust_domain: TrustDomain, account: str, uid: str | None, age: timedelta) -> Svid:
    """A leaf signed by the root in a folder, for an hour that ended `age` ago at the latest."""
    namespace, name = account.split("/")
    now = datetime.now(UTC).replace(microsecond=0)
    material = load_material(folder, trust_domain, now)
    key = ec.generate_private_key(ec.SECP256R1())
    identity = SpiffeId.of_service_account(trust_domain, namespace, name)
    end = now + timedelta(hours=1) - age
    plan = LeafPlan(identity, uid, key.public_key(), new_serial(), end - timedelta(hours=1, minutes=5), end)
    issuer = material.signer
    leaf = issuer.sign(leaf_builder(plan, issuer.certificate)).public_bytes(Encoding.DER)
    return Svid.of(key, [leaf])


def tls(svid: Svid | None = None, alpn: str = "policyd/1+http1", server: bool = False) -> ssl.SSLContext:
    """A TLS 1.3 context that checks nothing of the other end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    if svid is not None:
        with tempfile.NamedTemporaryFile(dir=os.environ["XDG_RUNTIME_DIR"]) as file:
            file.write(svid.key_pem + b"".join(svid.chain_pem))
            file.flush()
            context.load_cert_chain(file.name)
    return context


async def http(
    address: tuple[str, int],
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    context: ssl.SSLContext | None = None,
    source: str | None = None,
) -> Answer:
    """One request over a connection of its own, from an address; NOTHING where it ended without an answer."""
    host, port = address
    lines = {"Host": "books.test", "Connection": "close", **(headers or {})}
    if body:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    sent = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body
    return read_answer(await exchange(host, port, sent, context, source))


async def exchange(
    host: str, port: int, sent: bytes, context: ssl.SSLContext | None = None, source: str | None = None
) -> bytes:
    """Everything that comes back until the other end closes; what came before an error is kept."""
    received = b""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            name = "any.test" if context else None
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=name, local_addr=(source, 0) if source else None
            )
            try:
                writer.write(sent)
                await writer.drain()
                while chunk := await reader.read(65536):
                    received += chunk
            finally:
                writer.transport.abort()
    except (ConnectionError, ssl.SSLError):
        pass
    return received


def read_answer(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) < 2:
        return NOTHING
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(words[1]), headers, unchunked(body) if "transfer-encoding" in headers else body)


def unchunked(body: bytes) -> bytes:
    """What lies in chunks, as far as it came."""
    whole = b""
    while size := int(body.partition(b"\r\n")[0] or b"0", 16):
        rest = body.partition(b"\r\n")[2]
        whole, body = whole + rest[:size], rest[size + 2 :]
    return whole


async def ask_database(address: tuple[str, int], line: str, context: ssl.SSLContext | None = None) -> object:
    """One line to the database and its answer; None where the connection ended without one."""
    host, port = address
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname="any.test" if context else None
            )
            try:
                writer.write(line.encode() + b"\n")
                await writer.drain()
                answer = await reader.readline()
            finally:
                writer.transport.abort()
    except (ConnectionError, ssl.SSLError):
        return None
    return json.loads(answer) if answer else None
