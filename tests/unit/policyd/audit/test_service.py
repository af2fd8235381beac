"""One writer's stream: its order, its limits, and a store that is slow or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from policyd.audit import service as module
from policyd.audit.metrics import AuditMetrics
from policyd.audit.service import Allowance, AuditStreamService
from policyd.audit.sqlite import SqliteStore
from policyd.audit.verify import verify
from policyd.engine import version
from policyd_api.v1 import audit_pb2 as wire

from .conftest import OWN, WAIT_SECONDS, Chain, RealSigner, deliver, denial


@dataclass
class FakeStream:
    """Messages of the writer go into `incoming`, None ends it; acks come out of `acks`."""

    incoming: asyncio.Queue[wire.AuditMessage | None] = field(default_factory=asyncio.Queue)
    acks: list[int] = field(default_factory=list)
    begun: bool = False

    async def send_initial_metadata(self) -> None:
        self.begun = True

    async def recv_message(self) -> wire.AuditMessage | None:
        return await self.incoming.get()

    async def send_message(self, message: wire.AuditAck) -> None:
        self.acks.append(message.sequence)

    def hello(self, chain: bytes, acknowledged: int = 0, sha256: bytes = b"") -> None:
        hello = wire.AuditHello(chain=chain, acknowledged=acknowledged, acknowledged_sha256=sha256)
        self.incoming.put_nowait(wire.AuditMessage(hello=hello))

    def records(self, chain: Chain, begin: int = 0, end: int | None = None) -> None:
        sent = [
            wire.AuditRecord(sequence=link.sequence, previous_sha256=link.previous, json=link.json)
            for link in chain.links[begin:end]
        ]
        self.incoming.put_nowait(wire.AuditMessage(records=wire.AuditRecords(records=sent)))

    def end(self) -> None:
        self.incoming.put_nowait(None)


async def served(store: Any, chain: Chain, stream: FakeStream) -> AuditStreamService:
    made = AuditStreamService(store, lambda _stream: chain.writer)
    await asyncio.wait_for(made.deliver(stream), WAIT_SECONDS)
    return made


async def refused(store: Any, chain: Chain, stream: FakeStream) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await served(store, chain, stream)
    return caught.value


async def test_what_is_kept_is_acknowledged(store: SqliteStore, chain: Chain) -> None:
    stream = FakeStream()
    stream.hello(chain.name)
    chain.add(denial(0), denial(1), denial(2))
    stream.records(chain, 0, 2)
    stream.records(chain, 2, 3)
    stream.end()
    await served(store, chain, stream)
    assert (stream.begun, stream.acks) == (True, [2, 3])
    again = FakeStream()
    again.hello(chain.name, 1, chain.hashes[0])
    again.end()
    await served(store, chain, again)
    assert again.acks == [3]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (wire.AuditMessage(), "MESSAGE_UNEXPECTED"),
        (wire.AuditMessage(records=wire.AuditRecords()), "MESSAGE_UNEXPECTED"),
        (wire.AuditMessage(hello=wire.AuditHello(chain=b"short")), "HELLO_INVALID"),
        (wire.AuditMessage(hello=wire.AuditHello(chain=bytes(16), acknowledged=1)), "HELLO_INVALID"),
        (
            wire.AuditMessage(
                hello=wire.AuditHello(chain=bytes(16), acknowledged=2**63, acknowledged_sha256=bytes(32))
            ),
            "HELLO_INVALID",
        ),
    ],
)
async def test_a_stream_begins_with_a_hello(
    store: SqliteStore, chain: Chain, first: wire.AuditMessage, code: str
) -> None:
    stream = FakeStream()
    stream.incoming.put_nowait(first)
    error = await refused(store, chain, stream)
    assert (error.status, str(error.message).partition(":")[0]) == (Status.INVALID_ARGUMENT, code)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (wire.AuditRecord(sequence=0, previous_sha256=bytes(32), json=b"{}"), "RECORD_INVALID"),
        (wire.AuditRecord(sequence=2**63, previous_sha256=bytes(32), json=b"{}"), "RECORD_INVALID"),
        (wire.AuditRecord(sequence=1, previous_sha256=b"", json=b"{}"), "RECORD_INVALID"),
        (wire.AuditRecord(sequence=1, previous_sha256=bytes(32), json=b" " * 65_537), "RECORD_TOO_LONG"),
    ],
)
async def test_au_05_records_beyond_the_bounds_are_refused(
    store: SqliteStore, chain: Chain, record: wire.AuditRecord, code: str
) -> None:
    stream = FakeStream()
    stream.hello(chain.name)
    stream.incoming.put_nowait(wire.AuditMessage(records=wire.AuditRecords(records=[record])))
    assert str((await refused(store, chain, stream)).message).startswith(code)


async def test_who_says_nothing_is_let_go(
    store: SqliteStore, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELLO_SECONDS", 0.02)
    assert str((await refused(store, chain, FakeStream())).message).startswith("HELLO_OVERDUE")


async def test_streams_of_one_writer_are_few(store: SqliteStore, chain: Chain) -> None:
    made = AuditStreamService(store, lambda _stream: chain.writer)
    streams = [FakeStream() for _ in range(4)]
    running = [asyncio.create_task(made.deliver(stream)) for stream in streams]
    async with asyncio.timeout(5):
        while not all(stream.begun for stream in streams):
            await asyncio.sleep(0)
    with pytest.raises(GRPCError, match="TOO_MANY_STREAMS"):
        await made.deliver(FakeStream())
    for stream in streams:
        stream.hello(chain.name)
        stream.end()
    await asyncio.gather(*running)
    assert made.refused == {"TOO_MANY_STREAMS": 1}


class SlowStore:
    """Keeps one record after the other, when it is let."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def greet(self, *_: Any) -> Future[int]:
        done: Future[int] = Future()
        done.set_result(0)
        return done

    def append(self, _writer: Any, _chain: bytes, links: Any) -> Future[int]:
        done: Future[int] = Future()
        self.waiting.append(lambda: done.set_result(links[-1].sequence))
        return done


async def test_au_04_a_slow_store_slows_its_sender_and_loses_nothing(chain: Chain) -> None:
    """One message is worked on; the rest stays with the sender, whose spool counts what it drops."""
    store, stream = SlowStore(), FakeStream()
    stream.hello(chain.name)
    chain.add(*(denial(number) for number in range(10)))
    for number in range(10):
        stream.records(chain, number, number + 1)
    stream.end()
    serving = asyncio.create_task(served(store, chain, stream))
    for number in range(10):
        async with asyncio.timeout(5):
            while not store.waiting:
                await asyncio.sleep(0)
        assert (len(store.waiting), stream.acks) == (1, list(range(1, number + 1)))
        store.waiting.pop()()
    await serving
    assert stream.acks == list(range(1, 11))


def test_au_04_a_fast_writer_is_read_more_slowly() -> None:
    now = [0.0]
    allowance = Allowance(100, 1000, lambda: now[0])
    assert allowance.spend(1000) == 0
    assert allowance.spend(50) == 0.5
    now[0] += 0.5
    assert allowance.spend(0) == 0
    now[0] += 1000
    assert (allowance.spend(1000), allowance.spend(1)) == (0, 0.01)


async def test_au_03_without_a_store_nothing_is_acknowledged(
    tmp_path: Path, chain: Chain, signer: RealSigner
) -> None:
    (tmp_path / "file").write_text("in the way")
    store = SqliteStore(tmp_path / "file" / "audit", OWN, signer)
    store.start()
    stream = FakeStream()
    stream.hello(chain.name)
    error = await refused(store, chain, stream)
    assert (error.status, stream.acks) == (Status.UNAVAILABLE, [])
    metrics = AuditMetrics(store, AuditStreamService(store, lambda _: chain.writer).refused)
    failing = {sample.name: sample.value for metric in metrics.collect() for sample in metric.samples}
    assert failing["policyd_audit_store_failing"] == 1
    (tmp_path / "file").unlink()
    stream = FakeStream()
    stream.hello(chain.name)
    stream.records(chain, 0, 0)
    stream.end()
    async with asyncio.timeout(WAIT_SECONDS):
        while store.standing.problem is not None:
            await asyncio.sleep(0.01)  # tried again once a second
    await served(store, chain, stream)
    store.close()


def test_au_06_a_new_key_and_a_stepping_clock(tmp_path: Path, chain: Chain, signer: RealSigner) -> None:
    """Chains go on whatever the clock says, and each line is checked by the certificate of its time."""
    for number, key in enumerate((signer, RealSigner(tmp_path / "next"), signer)):
        store = SqliteStore(tmp_path / "audit", OWN, key)
        store.start()
        deliver(store, chain, denial(1, millis=4_000_000_000_000 - number * 10**11), denial(2, millis=1))
        store.close()
    result = verify(tmp_path / "audit", version)
    assert (result.tampered, result.records) == ([], 6)
    assert b'"chain"' in (tmp_path / "audit" / "heads.jsonl").read_bytes().splitlines()[1]
