"""A proxy's policy stream: what is sent when, and what ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from policyd.distribute import session as module
from policyd.distribute.refusals import permission_denied
from policyd_api.v1 import stream_pb2 as wire

from .conftest import FakeSigner, FakeStream, FakeTeller, leaf


async def _ended(session: Any) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await asyncio.wait_for(session.running, 5)
    return caught.value


async def _enforcing(session: Any, stream: FakeStream) -> wire.Envelope:
    stream.hello()
    _, envelope = await stream.assignment()
    stream.ack(envelope)
    await _until(lambda: session.state == "enforcing")
    return envelope


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_new_proxy_gets_everything(session: Any, stream: FakeStream) -> None:
    stream.hello(("shop/cart:80",))
    assignment, envelope = await stream.assignment()
    assert (assignment.snapshot, assignment.facts, assignment.discovery) == (
        b"table-1",
        b"facts",
        b"shop/cart:80",
    )
    assert (envelope.workload, envelope.pod_uid, envelope.serial) == ("deployment/shop/cart", "uid-1", 1)
    assert [(row.source, row.kind, row.revision) for row in envelope.basis] == [("folder", "*", 5)]
    assert assignment.envelope.chain == [b"leaf", b"issuer"]


async def test_what_is_held_is_not_sent_again(session: Any, stream: FakeStream) -> None:
    stream.hello(held=wire.Held(snapshot_sha256=b"Htable-1", facts_sha256=b"Hother", discovery_sha256=b"H"))
    assignment, envelope = await stream.assignment()
    assert (assignment.snapshot, assignment.facts) == (b"", b"facts")
    assert envelope.snapshot_sha256 == b"Htable-1"


async def test_one_assignment_at_a_time_and_the_newest_wins(
    session: Any, stream: FakeStream, teller: FakeTeller
) -> None:
    stream.hello()
    _, first = await stream.assignment()
    for number in range(2, 6):
        teller.snapshot = f"table-{number}".encode()
        session.wake()
        await asyncio.sleep(0)
    assert stream.outgoing.empty()
    stream.ack(first)
    assignment, second = await stream.assignment()
    assert (assignment.snapshot, second.serial) == (b"table-5", 2)
    assert assignment.facts == b""


async def test_the_same_again_is_not_told(session: Any, stream: FakeStream) -> None:
    await _enforcing(session, stream)
    session.wake()
    for _ in range(5):
        await asyncio.sleep(0)
    assert stream.outgoing.empty()


async def test_new_services_are_told_of(session: Any, stream: FakeStream) -> None:
    await _enforcing(session, stream)
    stream.hello(("shop/orders:80",))
    assignment, _ = await stream.assignment()
    assert (assignment.snapshot, assignment.discovery) == (b"", b"shop/orders:80")


async def test_a_nack_is_remembered_and_the_next_table_sent_whole(
    session: Any, stream: FakeStream, teller: FakeTeller
) -> None:
    stream.hello()
    _, envelope = await stream.assignment()
    stream.nack(envelope)
    await _until(lambda: session.state == "refused")
    assert session.detail == "SNAPSHOT_INVALID: no"
    assert stream.outgoing.empty()
    teller.snapshot = b"table-2"
    session.wake()
    assignment, _ = await stream.assignment()
    assert (assignment.snapshot, assignment.facts) == (b"table-2", b"facts")


async def test_a_proxy_that_is_ahead_is_told_nothing_until_we_are_there(
    session: Any, stream: FakeStream, teller: FakeTeller
) -> None:
    ahead = wire.Basis(source="folder", kind="*", revision=7)
    stream.hello(held=wire.Held(basis=[ahead], snapshot_sha256=b"Hnewer"))
    await _until(lambda: session.state == "waiting")
    assert "7 > 5" in session.detail
    assert stream.outgoing.empty()
    teller.basis = (("folder", "*", 7),)
    session.wake()
    await stream.assignment()


@pytest.mark.parametrize("wrong", ["serial", "hash"])
async def test_an_ack_of_nothing_ends_the_stream(session: Any, stream: FakeStream, wrong: str) -> None:
    """CT-10: a proxy that acknowledges garbage."""
    stream.hello()
    _, envelope = await stream.assignment()
    if wrong == "serial":
        envelope.serial = 9
    else:
        envelope.snapshot_sha256 = b"another"
    stream.ack(envelope)
    ended = await _ended(session)
    assert (ended.status, str(ended.message).split(":")[0]) == (Status.INVALID_ARGUMENT, "ACK_UNKNOWN")


async def test_the_first_message_is_a_hello(session: Any, stream: FakeStream) -> None:
    stream.incoming.put_nowait(wire.ProxyMessage(ack=wire.Ack(serial=1)))
    assert (await _ended(session)).status is Status.INVALID_ARGUMENT


async def test_a_proxy_that_never_answers_is_let_go(
    session: Any, stream: FakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CT-10: a slow proxy."""
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.05)
    stream.hello()
    await stream.assignment()
    ended = await _ended(session)
    assert str(ended.message).startswith("ACK_OVERDUE")


async def test_a_proxy_that_never_reads_is_let_go(
    session: Any, stream: FakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CT-10: a slow proxy that never reads its stream."""
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.05)
    stream.takes = False
    stream.hello()
    assert str((await _ended(session)).message).startswith("STREAM_NOT_READ")


async def test_a_proxy_that_never_greets_is_let_go(
    stream: FakeStream, teller: FakeTeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELLO_SECONDS", 0.05)
    made = module.Session(stream, leaf(), teller, FakeSigner())  # type: ignore[arg-type]
    with pytest.raises(GRPCError, match="HELLO_OVERDUE"):
        await asyncio.wait_for(made.run(), 5)


async def test_confirmations_follow(
    session: Any, stream: FakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.02)
    envelope = await _enforcing(session, stream)
    message = await asyncio.wait_for(stream.outgoing.get(), 5)
    confirmation = wire.Confirmation.FromString(message.confirmation.payload)
    assert confirmation.snapshot_sha256 == envelope.snapshot_sha256
    assert confirmation.at_millis >= envelope.issued_at_millis


async def test_a_pod_that_is_gone_loses_its_stream(
    session: Any, stream: FakeStream, teller: FakeTeller
) -> None:
    await _enforcing(session, stream)
    teller.error = permission_denied("POD_UNKNOWN", "gone")
    session.wake()
    assert (await _ended(session)).status is Status.PERMISSION_DENIED


async def test_the_end_of_the_proxys_side_is_the_end(session: Any, stream: FakeStream) -> None:
    stream.incoming.put_nowait(None)
    await asyncio.wait_for(session.running, 5)
