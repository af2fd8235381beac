"""A proxy's policy stream, over a real connection: what is sent when, and what ends it."""

from __future__ import annotations

import asyncio

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from policyd.distribute import service
from policyd.distribute.refusals import permission_denied
from policyd_api.v1 import stream_pb2 as wire
from servicekit.svid import TrustBundles

from .conftest import DOMAIN, Port, Proxy, until

short = pytest.mark.parametrize("times", [{"hello": 0.3, "slow": 0.3, "confirm": 0.05}])


async def _enforcing(port: Port) -> tuple[Proxy, wire.Envelope]:
    proxy = await port.proxy()
    await proxy.hello()
    _, envelope = await proxy.assignment()
    await proxy.ack(envelope)
    await until(lambda: port.state == "enforcing")
    return proxy, envelope


async def _quiet(port: Port, proxy: Proxy) -> None:
    """Nothing is said: what comes next is what the test has asked for last."""
    port.teller.facts += b"!"
    port.wake()
    assignment, _ = await proxy.assignment()
    assert assignment.facts == port.teller.facts


def _code(error: GRPCError) -> str:
    return str(error.message).partition(":")[0]


async def test_a_hello_is_answered_with_everything(port: Port) -> None:
    proxy = await port.proxy()
    await proxy.hello(("shop/cart:80",))
    assignment, envelope = await proxy.assignment()
    assert (assignment.snapshot, assignment.facts, assignment.discovery) == (
        b"table-1",
        b"facts",
        b"shop/cart:80",
    )
    assert (envelope.workload, envelope.pod_uid, envelope.serial) == ("deployment/shop/cart", "uid-1", 1)
    assert [(row.source, row.kind, row.revision) for row in envelope.basis] == [("folder", "*", 5)]
    assert (envelope.trust_domain, len(assignment.envelope.chain)) == ("test", 1)


async def test_what_is_held_is_not_sent_again(port: Port) -> None:
    proxy = await port.proxy()
    held = wire.Held(snapshot_sha256=b"Htable-1", facts_sha256=b"Hother", discovery_sha256=b"H")
    await proxy.hello(held=held)
    assignment, envelope = await proxy.assignment()
    assert (assignment.snapshot, assignment.facts) == (b"", b"facts")
    assert envelope.snapshot_sha256 == port.view.enforced == b"Htable-1"


async def test_one_assignment_at_a_time_and_the_newest_wins(port: Port) -> None:
    """CT-10: what a slow proxy is owed doesn't pile up."""
    proxy = await port.proxy()
    await proxy.hello()
    _, first = await proxy.assignment()
    for number in range(2, 50):
        port.teller.snapshot = f"table-{number}".encode()
        port.wake()
        await asyncio.sleep(0)
    await until(lambda: port.session.wanted == b"Htable-49")
    await proxy.ack(first)
    assignment, second = await proxy.assignment()
    assert (assignment.snapshot, second.serial) == (b"table-49", 2)
    assert assignment.facts == b""


async def test_the_same_again_is_not_told(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    for _ in range(5):
        port.wake()
        await asyncio.sleep(0)
    await _quiet(port, proxy)


async def test_new_services_are_told_of(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    await proxy.hello(("shop/orders:80",))
    assignment, _ = await proxy.assignment()
    assert (assignment.snapshot, assignment.discovery) == (b"", b"shop/orders:80")


async def test_a_large_table_comes_whole(port: Port) -> None:
    """More than all windows and buffers hold."""
    port.teller.snapshot = bytes(range(256)) * 40_000
    proxy = await port.proxy()
    await proxy.hello()
    assignment, _ = await proxy.assignment()
    assert assignment.snapshot == port.teller.snapshot


async def test_ct_10_a_nack_is_remembered_and_the_next_table_sent_whole(port: Port) -> None:
    proxy = await port.proxy()
    await proxy.hello()
    _, envelope = await proxy.assignment()
    await proxy.nack(envelope)
    await until(lambda: port.state == "refused")
    assert port.view.detail == "SNAPSHOT_INVALID: no"
    port.wake()
    port.teller.snapshot = b"table-2"
    port.wake()
    assignment, _ = await proxy.assignment()
    assert (assignment.snapshot, assignment.facts) == (b"table-2", b"facts")
    assert port.fanout.figures()["nacks"] == 1


async def test_a_proxy_that_is_ahead_is_told_nothing_until_we_are_there(port: Port) -> None:
    proxy = await port.proxy()
    ahead = wire.Basis(source="folder", kind="*", revision=7)
    await proxy.hello(held=wire.Held(basis=[ahead], snapshot_sha256=b"Hnewer"))
    await until(lambda: port.state == "waiting")
    assert "7 > 5" in port.view.detail
    port.teller.basis = (("folder", "*", 7),)
    port.wake()
    _, envelope = await proxy.assignment()
    assert envelope.basis[0].revision == 7


@pytest.mark.parametrize("wrong", ["serial", "hash", "twice"])
async def test_ct_10_an_ack_of_nothing_ends_the_stream(port: Port, wrong: str) -> None:
    proxy = await port.proxy()
    await proxy.hello()
    _, envelope = await proxy.assignment()
    if wrong == "serial":
        envelope.serial = 9
    elif wrong == "hash":
        envelope.snapshot_sha256 = b"another"
    else:
        await proxy.ack(envelope)
    await proxy.ack(envelope)
    ended = await proxy.ended()
    assert (ended.status, _code(ended)) == (Status.INVALID_ARGUMENT, "ACK_UNKNOWN")


@pytest.mark.parametrize(
    "message",
    [
        wire.ProxyMessage(),
        wire.ProxyMessage(ack=wire.Ack(serial=1)),
        wire.ProxyMessage(hello=wire.Hello(), ack=wire.Ack()),
        wire.ProxyMessage(hello=wire.Hello(services=[f"s{number}" for number in range(1025)])),
    ],
)
async def test_ct_10_the_first_message_is_a_hello(port: Port, message: wire.ProxyMessage) -> None:
    proxy = await port.proxy()
    await proxy.stream.send_message(message)
    assert (await proxy.ended()).status is Status.INVALID_ARGUMENT


async def test_a_later_hello_says_nothing_of_what_is_held(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    await proxy.hello(held=wire.Held())
    assert _code(await proxy.ended()) == "MESSAGE_UNEXPECTED"


@short
async def test_ct_10_a_proxy_that_never_answers_is_let_go(port: Port) -> None:
    proxy = await port.proxy()
    await proxy.hello()
    await proxy.assignment()
    assert _code(await proxy.ended()) == "ACK_OVERDUE"
    await until(lambda: not port.publisher.listeners)


@short
async def test_a_proxy_that_never_greets_is_let_go(port: Port) -> None:
    proxy = await port.proxy()
    assert _code(await proxy.ended()) == "HELLO_OVERDUE"


@short
async def test_confirmations_follow_and_only_while_we_know_that_nothing_is_newer(port: Port) -> None:
    proxy, envelope = await _enforcing(port)
    port.fanout.stand(port.teller.standing(), settled=True)
    message = await proxy.message()
    confirmation = wire.Confirmation.FromString(message.confirmation.payload)
    assert confirmation.snapshot_sha256 == envelope.snapshot_sha256
    assert confirmation.at_millis > envelope.issued_at_millis
    assert (confirmation.workload, confirmation.pod_uid) == ("deployment/shop/cart", "uid-1")
    with pytest.raises(TimeoutError):  # nobody has said anything since: nothing is confirmed
        async with asyncio.timeout(0.5):
            await proxy.stream.recv_message()


@short
async def test_who_refused_or_is_ahead_is_confirmed_nothing(port: Port) -> None:
    proxy = await port.proxy()
    await proxy.hello()
    _, envelope = await proxy.assignment()
    await proxy.nack(envelope)
    await until(lambda: port.state == "refused")
    port.fanout.stand(port.teller.standing(), settled=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await proxy.stream.recv_message()


@short
async def test_what_is_told_again_and_again_is_as_of_then(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service itself says, every few seconds, that nothing newer is known."""
    monkeypatch.setattr(service, "STAND_SECONDS", 0.02)
    port.policy.start()
    proxy, _ = await _enforcing(port)
    first, second = await proxy.message(), await proxy.message()
    times = [wire.Confirmation.FromString(each.confirmation.payload).at_millis for each in (first, second)]
    assert times[0] < times[1]


@short
async def test_while_nothing_compiles_nothing_is_confirmed(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STAND_SECONDS", 0.02)
    proxy, _ = await _enforcing(port)
    port.teller.broken = "no"
    port.teller.error = GRPCError(Status.UNAVAILABLE, "COMPILE_FAILED: no")
    port.policy.start()
    assert _code(await proxy.ended()) == "COMPILE_FAILED"


async def test_a_pod_that_is_gone_loses_its_stream(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    port.teller.error = permission_denied("POD_UNKNOWN", "gone")
    port.wake()
    assert (await proxy.ended()).status is Status.PERMISSION_DENIED
    assert not port.publisher.listeners


async def test_ct_11_who_may_have_nothing_is_not_listened_to(port: Port) -> None:
    port.teller.error = permission_denied("POD_OTHER", "the pod isn't his")
    proxy = await port.proxy()
    ended = await proxy.ended()
    assert (ended.status, _code(ended)) == (Status.PERMISSION_DENIED, "POD_OTHER")


async def test_a_fault_of_ours_ends_the_stream(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    port.teller.error = KeyError("a bug")
    port.wake()
    assert (await proxy.ended()).status is Status.INTERNAL


async def test_a_stream_ends_with_its_certificate(port: Port) -> None:
    svid = port.svid(minutes=59, seconds=58)
    proxy = await port.proxy(svid=svid)
    await proxy.hello()
    await proxy.assignment()
    assert _code(await proxy.ended()) == "SVID_EXPIRED"


async def test_the_end_of_the_proxys_side_is_the_end(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    await proxy.stream.end()
    async with asyncio.timeout(5):
        assert await proxy.stream.recv_message() is None
    await until(lambda: not port.publisher.listeners)


async def test_a_proxy_that_vanishes_is_noticed(port: Port) -> None:
    proxy, _ = await _enforcing(port)
    proxy.stream._stream.connection._transport.abort()
    await until(lambda: not port.publisher.listeners and not port.fanout.figures()["streams"])


async def test_a_renewed_certificate_and_new_roots_hold_from_the_next_moment_on(port: Port) -> None:
    """The listener stays; open streams go on, and what is signed is signed anew."""
    proxy, _ = await _enforcing(port)
    renewed = port.own()
    port.credentials.adopt(renewed, TrustBundles(2, {DOMAIN: port.roots}))
    port.teller.snapshot = b"table-2"
    port.wake()
    assignment, envelope = await proxy.assignment()
    assert assignment.envelope.chain[0] == renewed.chain_der[0]
    await proxy.ack(envelope)
    await (await port.proxy("uid-2")).hello()
    with pytest.raises(ValueError, match="roots"):
        port.credentials.adopt(renewed, TrustBundles(3, {}))
    assert port.credentials.chain == renewed.chain_der


async def test_streams_of_many_pods(port: Port) -> None:
    """All are told of a change, and status says so."""
    proxies = [await port.proxy(f"uid-{number}") for number in range(100)]
    for proxy in proxies:
        await proxy.hello()
    for proxy in proxies:
        _, envelope = await proxy.assignment()
        await proxy.ack(envelope)
    port.teller.snapshot = b"table-2"
    port.wake()
    for number, proxy in enumerate(proxies):
        _, envelope = await proxy.assignment()
        assert (envelope.pod_uid, envelope.snapshot_sha256) == (f"uid-{number}", b"Htable-2")
        await proxy.ack(envelope)
    await until(lambda: port.fanout.figures()["acks"] == 200)
    assert all(
        (view := session.view()) is not None and session.is_current(port.teller, view)
        for session in port.sessions
    )
