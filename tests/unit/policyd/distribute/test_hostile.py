"""Peers of policyd's port that mean no good: no crash, bounded memory, and a proxy beside them is served."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import h2.connection
import h2.events
import h2.settings
import pytest
from grpclib.exceptions import GRPCError, StreamTerminatedError

from identity.material import create_root
from policyd_api.v1 import audit_pb2
from policyd_api.v1 import stream_pb2 as wire
from servicekit.svid import Svid

from .conftest import DOMAIN, WAIT_SECONDS, Port, Proxy, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MEGABYTE = 1 << 20
POLICY = "/policyd.v1.PolicyStream/Follow"
AUDIT = "/policyd.v1.AuditStream/Deliver"


def _head(path: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "x"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _connect(port: Port, svid: Svid | None) -> socket.socket:
    """A blocking connection; with TLS where there is a certificate to show."""
    plain = socket.create_connection(port.address, WAIT_SECONDS)
    return plain if svid is None else _secured(plain, svid)


def _secured(plain: socket.socket, svid: Svid | None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if svid is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(svid.key_pem + b"".join(svid.chain_pem))
            file.flush()
            context.load_cert_chain(file.name)
    return context.wrap_socket(plain)


def _pour(peer: socket.socket, data: bytes) -> int:
    """Send, and read until the other end closes or is silent; how many bytes came."""
    received = 0
    with suppress(OSError), peer:
        peer.sendall(data)
        peer.settimeout(0.1)
        while chunk := peer.recv(65536):
            received += len(chunk)
    return received


@asynccontextmanager
async def _served_beside(port: Port) -> AsyncIterator[Proxy]:
    """A proxy that is connected all the time, and told of a change at the end; and one that connects then."""
    proxy = await port.proxy("calm")
    await proxy.hello()
    _, envelope = await proxy.assignment()
    await proxy.ack(envelope)
    yield proxy
    port.teller.facts += b"+"
    port.wake()
    assignment, _ = await proxy.assignment()
    assert assignment.facts == port.teller.facts
    late = await port.proxy("late")
    await late.hello()
    assert (await late.assignment())[0].facts == port.teller.facts


async def test_ct_12_bytes_that_are_no_tls(port: Port) -> None:
    noise = random.Random(12)
    async with _served_beside(port):
        hellos = [
            b"\x16\x03\x01\xff\xff" + bytes(65535),
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            PREFACE + _frame(4, 0, 0, b""),
            *(noise.randbytes(length) for length in (0, 1, 5, 100, 16 * 1024, MEGABYTE)),
        ]
        for hello in hellos:
            peer = await asyncio.to_thread(_connect, port, None)
            await asyncio.to_thread(_pour, peer, hello)
        await until(lambda: port.fanout.figures()["handshakes_failed"] >= len(hellos) - 3)
    assert port.fanout.figures()["streams"] == 2


async def test_ct_12_who_proves_nothing_is_not_listened_to(port: Port, tmp_path: Path) -> None:
    """No certificate, one of another root, one that has ended, one of another trust domain."""
    other = tmp_path / "other"
    create_root(other, DOMAIN)
    shown: list[Svid | None] = [None, port.svid(folder=other), port.svid(hours=2)]
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, _head(POLICY))
    client.send_data(1, _framed(b""))

    def call(svid: Svid | None) -> None:
        with suppress(OSError):
            peer = _secured(socket.create_connection(port.address, WAIT_SECONDS), svid)
            _pour(peer, client.data_to_send())

    async with _served_beside(port):
        for svid in shown:
            await asyncio.to_thread(call, svid)
        await until(lambda: port.fanout.figures()["handshakes_failed"] == len(shown))
    assert port.fanout.figures()["streams"] == 2


async def test_ct_12_connections_that_say_nothing_hold_up_nobody(port: Port) -> None:
    """A thousand before TLS; fewer with a certificate, for each has a few places only."""
    before = _resident()
    async with _served_beside(port), AsyncExitStack() as stack:
        for _ in range(1000):
            stack.callback((await asyncio.to_thread(_connect, port, None)).close)
        idle = port.svid("idle")
        for _ in range(8):
            stack.callback((await asyncio.to_thread(_connect, port, idle)).close)
        beyond = await asyncio.to_thread(_connect, port, idle)
        stack.callback(beyond.close)
        assert await asyncio.to_thread(_pour, beyond, PREFACE + _frame(4, 0, 0, b"")) == 0
        await until(lambda: port.fanout.figures()["connections_refused"] == 1)
    assert _resident() - before < 60 * MEGABYTE


@pytest.mark.parametrize("times", [{"handshake": 0.3, "hello": 0.3, "idle": 0.3}])
async def test_ct_12_silence_is_not_waited_for(port: Port) -> None:
    """Before TLS, after it, after the preface, and after the head of a call."""
    preface = PREFACE + _frame(4, 0, 0, b"")
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, _head(POLICY))

    def silent(svid: Svid | None, data: bytes) -> None:
        peer = _connect(port, svid)
        peer.sendall(data)
        peer.settimeout(WAIT_SECONDS)
        with suppress(ConnectionError), peer:
            while peer.recv(65536):
                pass

    shown = port.svid("silent")
    for svid, data in (
        (None, b""),
        (None, b"\x16"),
        (shown, b""),
        (shown, preface),
        (shown, client.data_to_send()),
    ):
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.to_thread(silent, svid, data)
    await until(lambda: port.fanout.figures()["streams"] == 0)


async def test_ct_12_frames_that_are_no_http2(port: Port) -> None:
    noise = random.Random(2)
    async with _served_beside(port):
        for round_ in range(40):
            kind, flags = noise.randrange(16), noise.randrange(256)
            frame = _frame(kind, flags, noise.randrange(4), noise.randbytes(noise.randrange(64)))
            peer = await asyncio.to_thread(_connect, port, port.svid(f"noise-{round_}"))
            await asyncio.to_thread(_pour, peer, (PREFACE if round_ % 4 else b"") + frame * 3)
    assert port.fanout.figures()["connections_failed"] > 10


_ENCODED = b"\x83\x87\x41\x01x\x44" + bytes([len(POLICY)]) + POLICY.encode() + b"\x5f\x10application/grpc"
FLOODS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda number: _frame(6, 0, 0, number.to_bytes(8, "big")),
    "settings": lambda number: _frame(4, 0, 0, b"\0\3" + number.to_bytes(4, "big")),
    "priority": lambda number: _frame(2, 0, 2 * number + 1, bytes(5)),
    "window": lambda _: _frame(8, 0, 0, b"\0\0\0\1"),
    "reset": lambda number: _frame(1, 4, 2 * number + 1, _ENCODED) + _frame(3, 0, 2 * number + 1, bytes(4)),
    "continuation": lambda number: _frame(9, 0, 1, b"\0") if number else _frame(1, 0, 1, _ENCODED),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_ct_12_a_flood_of_frames_moves_nobody_else(port: Port, flood: str) -> None:
    """Four megabytes at once, read by nobody; then a proxy is told of a change, and another connects."""
    before = _resident()
    data = PREFACE + _frame(4, 0, 0, b"") + b"".join(FLOODS[flood](number) for number in range(200_000))
    peer = await asyncio.to_thread(_connect, port, port.svid("flood"))
    pouring = threading.Thread(target=_pour, args=(peer, data[: 4 * MEGABYTE]))
    async with _served_beside(port):
        pouring.start()
        await asyncio.to_thread(pouring.join, 1)
    with suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    await asyncio.to_thread(pouring.join)
    if flood == "reset":
        assert port.fanout.figures()["connections_failed"] == 1
        assert port.teller.asked < 50
    assert _resident() - before < 60 * MEGABYTE


@pytest.mark.parametrize("path", [POLICY, AUDIT])
async def test_ct_12_a_message_of_100_megabytes_is_refused_unread(port: Port, path: str) -> None:
    before = _resident()
    length = 100 * MEGABYTE
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, _head(path))
    client.send_data(1, b"\0" + length.to_bytes(4, "big") + bytes(10_000))
    async with _served_beside(port):
        peer = await asyncio.to_thread(_connect, port, port.svid("long"))
        statuses = await asyncio.to_thread(_statuses, peer, client)
    assert statuses == ["8"]  # RESOURCE_EXHAUSTED
    assert _resident() - before < 30 * MEGABYTE


def _statuses(peer: socket.socket, client: h2.connection.H2Connection, wanted: int = 1) -> list[str]:
    """The first statuses that come back."""
    found: list[str] = []
    with peer:
        peer.sendall(client.data_to_send())
        peer.settimeout(WAIT_SECONDS)
        while len(found) < wanted:
            data = peer.recv(65536)
            assert data, "closed"
            for event in client.receive_data(data):
                headers = getattr(event, "headers", None) or ()
                found += [value.decode() for name, value in headers if name == b"grpc-status"]
    return found


async def test_ct_12_calls_that_are_none(port: Port) -> None:
    client = h2.connection.H2Connection()
    client.initiate_connection()
    calls = [
        (_head("/policyd.v1.PolicyStream/Other"), b""),
        (_head(POLICY), b"\1\0\0\0\0"),
        (_head(POLICY), _framed(b"\xff\xff")),
        (_head(AUDIT), _framed(b"\xff\xff")),
    ]
    for number, (head, body) in enumerate(calls):
        client.send_headers(2 * number + 1, head)
        client.send_data(2 * number + 1, body)
    peer = await asyncio.to_thread(_connect, port, port.svid())
    statuses = await asyncio.to_thread(_statuses, peer, client, len(calls))
    assert sorted(statuses) == ["12", "12", "3", "3"]


async def test_ct_12_streams_of_one_pod_and_of_one_connection_are_few(port: Port) -> None:
    proxies = [await port.proxy("many") for _ in range(4)]
    for proxy in proxies:
        await proxy.hello()
        await proxy.assignment()
    fifth = await port.proxy("many")
    assert str((await fifth.ended()).message).startswith("TOO_MANY_STREAMS")
    async with _served_beside(port):
        client = h2.connection.H2Connection()
        client.initiate_connection()
        peer = await asyncio.to_thread(_connect, port, port.svid("another"))
        settings = await asyncio.to_thread(_settings, peer, client)
    assert settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] == 8


def _settings(peer: socket.socket, client: h2.connection.H2Connection) -> h2.settings.Settings:
    with peer:
        peer.sendall(client.data_to_send())
        while True:
            for event in client.receive_data(peer.recv(65536)):
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    return client.remote_settings


@pytest.mark.parametrize("times", [{"slow": 0.5, "idle": 0.3}])
@pytest.mark.parametrize("how", ["window", "socket"])
async def test_ct_10_a_proxy_that_never_reads_is_let_go(port: Port, how: str) -> None:
    """Its window is shut, or it doesn't even read its socket: the table isn't copied, others are told."""
    port.teller.snapshot = bytes(8 * MEGABYTE)
    svid = port.svid("deaf")

    def deaf() -> socket.socket:
        client = h2.connection.H2Connection()
        client.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100 if how == "window" else 2**31 - 1
            },
        )
        client.initiate_connection()
        client.increment_flow_control_window(2**30)
        client.send_headers(1, _head(POLICY))
        hello = wire.ProxyMessage(hello=wire.Hello(reader_version=1))
        client.send_data(1, _framed(hello.SerializeToString()))
        peer = _connect(port, svid)
        peer.sendall(client.data_to_send())
        return peer

    before = _resident()
    async with AsyncExitStack() as stack:
        for _ in range(4):
            stack.callback((await asyncio.to_thread(deaf)).close)
        await until(lambda: len(port.sessions) == 4)
        assert _resident() - before < 8 * MEGABYTE + 60 * MEGABYTE
        await until(lambda: not port.sessions)
        await until(lambda: port.fanout.figures()["streams"] == 0)
    port.teller.snapshot = b"small"
    async with _served_beside(port):
        pass


async def test_ct_10_hellos_without_end_are_taken_one_by_one(port: Port) -> None:
    """A proxy that talks without listening costs itself."""
    async with _served_beside(port):
        proxy = await port.proxy("chatty")
        with suppress(GRPCError, StreamTerminatedError, ConnectionError):
            for number in range(2_000):
                await proxy.hello((f"shop/s{number}:80",))


async def test_ct_12_denials_of_all_streams_share_one_bound(port: Port) -> None:
    """Messages come one by one and whole, however many streams and pieces they come in."""
    record = audit_pb2.AuditRecord(sequence=1, previous_sha256=bytes(32), json=bytes(60_000))
    message = audit_pb2.AuditMessage(records=audit_pb2.AuditRecords(records=[record] * 8))
    framed = _framed(message.SerializeToString())

    def deliver(uid: str) -> None:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        client.send_headers(1, _head(AUDIT))
        with _connect(port, port.svid(uid)) as peer:
            left = framed * 2
            while left:
                room = min(client.local_flow_control_window(1), client.max_outbound_frame_size, len(left))
                if room > 0:
                    client.send_data(1, left[:room])
                    left = left[room:]
                peer.sendall(client.data_to_send())
                if room <= 0:
                    client.receive_data(peer.recv(65536))
            peer.settimeout(WAIT_SECONDS)
            peer.sendall(client.data_to_send())
            done.wait(WAIT_SECONDS)

    done = threading.Event()
    delivering = [asyncio.create_task(asyncio.to_thread(deliver, f"pod-{number}")) for number in range(4)]
    try:
        await until(lambda: len(port.denials) == 8)
    finally:
        done.set()
        await asyncio.gather(*delivering)
    assert all(each == message for each in port.denials)


async def test_it_stops_with_streams_open_and_leaves_no_thread(port: Port) -> None:
    def threads() -> int:
        names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
        return sum(name.startswith("fanout") for name in names)

    proxy = await port.proxy()
    await proxy.hello()
    await proxy.assignment()
    # A thread that answers has its name by now: it gives itself one before it does anything.
    before = threads()
    assert before > 0
    closing = asyncio.create_task(asyncio.to_thread(port.fanout.close, 5.0))
    ended = await proxy.ended()
    assert str(ended.message).startswith("STOPPING")
    async with asyncio.timeout(WAIT_SECONDS):
        await closing
        while threads() >= before:  # a thread that was waited for is seen in /proc for a moment
            await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_connect, port, None)
