"""The time until an ExternalWorkload's table takes a grant away (promise P-3), as far as policyd has it.

No proxy of an ExternalWorkload runs on loopback: the tests are its end of the stream, and ask the engine.
What a proxy does with a table is the same for all, and measured in `test_revocation.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError, StreamTerminatedError

from policyd import engine
from policyd_api.v1 import stream_pb2 as wire
from policyd_api.v1.stream_grpc import PolicyStreamStub

from .audit_client import policyd_channel
from .mesh import WAIT_SECONDS, Mesh
from .revocations import CALLER, NAMESPACE, allow, documents
from .vault import WORKLOADS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P-3")]

TOLD_SECONDS = 1.0
PORT = 8080
EXTERNAL = """\
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: outside, namespace: vaults, labels: {app: %s}}
spec:
  meshTLS: {identity: "%s", serverName: outside.test}
  ports: [{name: http, port: 8080}]
  workloadIPs: [{ip: 127.0.0.1}]
"""
SERVER = """\
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: outside, namespace: vaults}
spec:
  externalWorkloadSelector: {matchLabels: {app: outside}}
  port: http
  accessPolicy: all-authenticated
"""


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vault and its caller, and a namespace in which an ExternalWorkload can be."""
    folder = tmp_path_factory.mktemp("vaults")
    (folder / "workloads.yaml").write_text(WORKLOADS)
    return folder


class Stream:
    """A proxy's end of the policy stream."""

    def __init__(self, mesh: Mesh, stream: Any) -> None:
        self._stream = stream
        self._caller = str(mesh.svid("callers/caller").identity)
        self._snapshot = b""

    async def next(self) -> None:
        """Take up the next table, and acknowledge it; what ends the stream is raised."""
        message = await asyncio.wait_for(self._stream.recv_message(), WAIT_SECONDS)
        if message is None:
            await self._stream.recv_trailing_metadata()
            raise StreamTerminatedError("it ended")
        if not message.HasField("assignment"):
            return
        envelope = wire.Envelope.FromString(message.assignment.envelope.payload)
        self._snapshot = message.assignment.snapshot or self._snapshot
        ack = wire.Ack(serial=envelope.serial, snapshot_sha256=envelope.snapshot_sha256)
        await self._stream.send_message(wire.ProxyMessage(ack=ack))

    def allows(self) -> bool:
        """Whether the caller may connect, by the table that was told last."""
        question = {
            "port": PORT,
            "at": int(time.time() * 1000),
            "tableAgeMillis": 0,
            "facts": {"uid": "", "addresses": [], "probeAddresses": []},
            "from": {"ip": "127.0.0.1", "identity": self._caller},
            "request": {"tcp": {}},
        }
        answer = json.loads(engine.Table(self._snapshot).decide(json.dumps(question).encode()))
        return bool(answer["verdict"] == "allow")


@asynccontextmanager
async def _stream(mesh: Mesh) -> AsyncIterator[Stream]:
    channel = policyd_channel(mesh, mesh.svid("vaults/outside"))
    try:
        async with PolicyStreamStub(channel).Follow.open() as stream:
            hello = wire.Hello(reader_version=engine.READER_VERSION)
            await stream.send_message(wire.ProxyMessage(hello=hello))
            yield Stream(mesh, stream)
            await stream.cancel()
    finally:
        channel.close()


def _world(mesh: Mesh, label: str, account: str, *more: str) -> str:
    identity = str(mesh.svid(f"vaults/{account}").identity)
    return documents(EXTERNAL % (label, identity), *more)


async def _told(mesh: Mesh, manifests: Path, before: str, after: str) -> float:
    """The seconds from saving until the table says no, or the stream is ended."""
    file = manifests / "external.yaml"
    file.write_text(before)
    async with asyncio.timeout(WAIT_SECONDS):
        while (
            True
        ):  # a folder's change has no event here: until policyd knows the workload, it ends the stream
            try:
                return await _measured(mesh, file, after)
            except GRPCError:
                await asyncio.sleep(0.05)


async def _measured(mesh: Mesh, file: Path, after: str) -> float:
    took: list[float] = []
    try:
        await _measure(mesh, file, after, took)
    except (GRPCError, StreamTerminatedError):  # raised again where a stream that was ended is closed
        if not took:
            raise
    return took[0]


async def _measure(mesh: Mesh, file: Path, after: str, took: list[float]) -> None:
    async with _stream(mesh) as stream:
        await stream.next()
        while not stream.allows():
            await stream.next()
        began = time.monotonic()
        file.write_text(after)
        try:
            while stream.allows():
                await stream.next()
        except (GRPCError, StreamTerminatedError):
            assert "sa/outside" not in after, "the stream ended, though the workload is there"
        took.append(time.monotonic() - began)


@pytest.mark.parametrize("change", ["relabelled", "another identity", "deleted", "its grant deleted"])
async def test_p_3_an_external_workload_is_told_in_time(mesh: Mesh, manifests: Path, change: str) -> None:
    grant = allow(NAMESPACE, CALLER)
    befores = {"its grant deleted": _world(mesh, "outside", "outside", grant)}
    afters = {
        "relabelled": _world(mesh, "other", "outside", SERVER),
        "another identity": _world(mesh, "outside", "another", SERVER),
        "deleted": SERVER,
        "its grant deleted": _world(mesh, "outside", "outside"),
    }
    before = befores.get(change, _world(mesh, "outside", "outside", SERVER))
    assert await _told(mesh, manifests, before, afters[change]) < TOLD_SECONDS
