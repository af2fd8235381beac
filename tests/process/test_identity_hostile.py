"""Peers that nobody knows yet, and that mean no good: no crash, bounded memory, others are served."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import h2.connection
import pytest

from servicekit.renewal import make_csr
from tests.process.identity_process import SERVER_NAME, WAIT_SECONDS, Running, World, new_key, serving

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "x"),
    (":path", "/policyd.v1.Identity/Certify"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(World(tmp_path_factory.mktemp("identity"))) as one:
        yield one


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), WAIT_SECONDS)


def connect_tls(running: Running) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(running.world.root / "root.crt"))
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connect(running), server_hostname=SERVER_NAME)


def send_and_drain(peer: socket.socket, data: bytes, most: int = MEGABYTE) -> int:
    """Send, and read until the other end closes or is silent; how many bytes came."""
    received = 0
    try:
        peer.sendall(data)
        peer.settimeout(0.2)
        while received < most and (chunk := peer.recv(65536)):
            received += len(chunk)
    except OSError:
        pass
    return received


def assert_alive(running: Running, uid: str) -> None:
    with running.client() as client:
        assert client.certify(make_csr(new_key()), running.world.token("calm", uid)).chain
    assert running.process.poll() is None


def test_id_12_bytes_that_are_no_tls(running: Running) -> None:
    noise = random.Random(12)
    for length in (0, 1, 5, 100, 16 * 1024, MEGABYTE):
        with connect(running) as peer:
            send_and_drain(peer, noise.randbytes(length))
    for hello in (
        b"\x16\x03\x01\xff\xff" + bytes(65535),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"GET / \r\n\r\n",
    ):
        with connect(running) as peer:
            send_and_drain(peer, hello)
    assert_alive(running, "uid-tls")


def test_id_12_frames_that_are_no_http2(running: Running) -> None:
    noise = random.Random(2)
    for round_ in range(60):
        with connect_tls(running) as peer:
            head = PREFACE if round_ % 2 else b""
            kind, flags, stream = noise.randrange(16), noise.randrange(256), noise.randrange(4)
            payload = noise.randbytes(noise.randrange(64))
            frame = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload
            send_and_drain(peer, head + frame * 3)
    assert_alive(running, "uid-http2")


def test_id_12_messages_that_are_no_request(running: Running) -> None:
    noise = random.Random(3)
    with connect_tls(running) as peer:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        for number in range(80):
            stream = client.get_next_available_stream_id()
            client.send_headers(stream, HEADERS)
            body = noise.randbytes(noise.randrange(60))
            flag = noise.choice((b"\0", b"\1", b"\7"))
            client.send_data(stream, flag + len(body).to_bytes(4) + body, end_stream=number % 3 > 0)
        assert send_and_drain(peer, client.data_to_send()) > 0
    assert_alive(running, "uid-message")


def test_id_12_a_message_of_four_gigabytes_is_refused_unread(running: Running) -> None:
    before = running.resident_bytes()
    with connect_tls(running) as peer:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        streams = []
        for _ in range(50):
            stream = client.get_next_available_stream_id()
            client.send_headers(stream, HEADERS)
            client.send_data(stream, b"\0\xff\xff\xff\xff")
            streams.append(stream)
        peer.sendall(client.data_to_send())
        refused = read_statuses(peer, client, len(streams))
    assert refused == ["8"] * len(streams)  # RESOURCE_EXHAUSTED
    assert running.resident_bytes() - before < 30 * MEGABYTE
    assert_alive(running, "uid-long")


def read_statuses(peer: ssl.SSLSocket, client: h2.connection.H2Connection, wanted: int) -> list[str]:
    statuses: list[str] = []
    peer.settimeout(WAIT_SECONDS)
    while len(statuses) < wanted:
        data = peer.recv(65536)
        assert data, "closed"
        for event in client.receive_data(data):
            for name, value in getattr(event, "headers", None) or ():
                if name == b"grpc-status":
                    statuses.append(value.decode())
    return statuses


def test_id_12_peers_that_stall_hold_up_nobody(running: Running) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(running))
        for _ in range(20):
            half = stack.enter_context(connect_tls(running))
            half.sendall(PREFACE[:10])
        assert_alive(running, "uid-stall")


def test_id_12_many_streams_and_long_headers_stay_bounded(running: Running) -> None:
    before = running.resident_bytes()
    client = h2.connection.H2Connection()
    client.initiate_connection()
    # What the server allows isn't asked.
    client.remote_settings.max_concurrent_streams = 10_000
    for stream in range(1, 1001, 2):
        client.send_headers(stream, [*HEADERS, ("x-long", "a" * 4000)])
    data = client.data_to_send()
    for _ in range(8):
        with connect_tls(running) as peer:
            send_and_drain(peer, data)
    assert running.resident_bytes() - before < 60 * MEGABYTE
    assert_alive(running, "uid-streams")
