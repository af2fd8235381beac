"""Proxies as policyd sees them: streams with certificates of a real identity, that acknowledge as told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.exceptions import GRPCError, StreamTerminatedError

from identity.spiffe_id import SpiffeId, TrustDomain
from policyd import engine
from policyd_api.v1 import stream_pb2 as wire
from policyd_api.v1.audit_grpc import AuditStreamStub
from policyd_api.v1.stream_grpc import PolicyStreamStub
from servicekit.channel import VerifiedChannel
from servicekit.svid import Svid
from servicekit.tls import client_context
from tests.api import objects
from tests.api.identities import AUDIENCE, NAMESPACE, Identity, running_identity
from tests.api.policyd_process import Policyd, install
from tests.api.rig import ApiServer
from tests.process.audit_client import Delivery, Spool

TRUST_DOMAIN = TrustDomain("cluster.local")
POLICYD = SpiffeId.of_service_account(TRUST_DOMAIN, NAMESPACE, "policyd")


@dataclass
class Mesh:
    """Identity, and replicas of policyd that have certificates of it."""

    api: ApiServer
    identity: Identity
    folder: Path

    @property
    def roots(self) -> Path:
        return self.identity.running.world.root / "root.crt"

    def policyd(self, name: str) -> Policyd:
        """Make a replica, which isn't started yet."""
        kubeconfig = install(self.api, NAMESPACE)
        pod = objects.create_pod(self.api, NAMESPACE, "policyd", name=objects.unique(name))
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / "pod-token").write_text(objects.pod_token(self.api, pod, AUDIENCE))
        more = {
            "identity": {"address": self.identity.running.address},
            "tokenFile": str(folder / "pod-token"),
            "rootsFile": str(self.roots),
        }
        return Policyd(folder, kubeconfig, self.api.ca, NAMESPACE, name, more)

    def certify(self, pod: objects.Pod) -> Svid:
        """Get a pod its certificate."""
        made = self.identity.certify(objects.pod_token(self.api, pod, AUDIENCE))
        return Svid.of(made.key, made.chain)

    def channel(self, policyd: Policyd, svid: Svid) -> VerifiedChannel:
        found = x509.load_pem_x509_certificates(self.roots.read_bytes())
        roots = [each.public_bytes(Encoding.DER) for each in found]
        return VerifiedChannel("127.0.0.1", policyd.port, client_context(roots, svid), POLICYD)


@contextlib.contextmanager
def mesh(api: ApiServer, folder: Path) -> Iterator[Mesh]:
    with running_identity(api, folder) as identity:
        yield Mesh(api, identity, folder)


@dataclass
class Proxy:
    """One stream. While `acknowledges` is cleared it takes what it is told, and says nothing."""

    acknowledges: asyncio.Event = field(default_factory=asyncio.Event)
    acked: int = 0
    error: BaseException | None = None

    async def follow(self, channel: VerifiedChannel) -> None:
        try:
            async with PolicyStreamStub(channel).Follow.open() as stream:
                hello = wire.Hello(reader_version=engine.READER_VERSION)
                await stream.send_message(wire.ProxyMessage(hello=hello))
                async for message in stream:
                    if message.HasField("assignment"):
                        await self.acknowledges.wait()
                        envelope = wire.Envelope.FromString(message.assignment.envelope.payload)
                        ack = wire.Ack(serial=envelope.serial, snapshot_sha256=envelope.snapshot_sha256)
                        await stream.send_message(wire.ProxyMessage(ack=ack))
                        self.acked += 1
        except (GRPCError, StreamTerminatedError, OSError) as error:
            self.error = error


@contextlib.asynccontextmanager
async def connected(mesh: Mesh, policyd: Policyd, pod: objects.Pod) -> AsyncIterator[Proxy]:
    """Connect a pod's proxy to a replica; it acknowledges everything until it is told otherwise."""
    svid = await asyncio.to_thread(mesh.certify, pod)
    channel, proxy = mesh.channel(policyd, svid), Proxy()
    proxy.acknowledges.set()
    following = asyncio.create_task(proxy.follow(channel))
    try:
        yield proxy
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        with contextlib.suppress(OSError, GRPCError, StreamTerminatedError):
            channel.close()


async def deliver(mesh: Mesh, policyd: Policyd, pod: objects.Pod, *records: dict[str, Any]) -> None:
    """Deliver records as a pod's proxy does, and wait until they are kept."""
    channel = mesh.channel(policyd, await asyncio.to_thread(mesh.certify, pod))
    spool = Spool()
    try:
        async with AuditStreamStub(channel).Deliver.open(timeout=60) as stream:
            await stream.send_message(spool.hello())
            delivery = Delivery(stream)
            await delivery.send(spool.add(*records))
            await delivery.acknowledged(len(records))
            await stream.cancel()
    finally:
        channel.close()


def meshed(api: ApiServer, namespace: str, workload: str, name: str) -> objects.Pod:
    """Create a pod with a proxy that a Deployment controls, which is made where it isn't there."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    there = {each["metadata"]["name"]: each for each in api.request("GET", path)["items"]}
    labels = {"app": workload}
    if workload not in there:
        container = {"name": "app", "image": "localhost/app:1"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        there[workload] = api.request("POST", path, {"metadata": {"name": workload}, "spec": spec})
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": workload,
        "uid": there[workload]["metadata"]["uid"],
        "controller": True,
    }
    containers = [
        {"name": "app", "image": "localhost/app:1"},
        {"name": "policyd-proxy", "image": "localhost/proxy:1"},
    ]
    return objects.create_pod(
        api,
        namespace,
        name=name,
        spec={"containers": containers},
        metadata={"labels": labels, "ownerReferences": [owner]},
    )
