from __future__ import annotations

import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import PolicyBuilder, Store

from identity.material import create_root
from servicekit.leaf import read_leaf
from servicekit.renewal import make_csr
from tests.process.identity_process import (
    SERVER_NAME,
    TRUST_DOMAIN,
    WAIT_SECONDS,
    Running,
    World,
    new_key,
    serving,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(World(tmp_path_factory.mktemp("identity")), metricsListen=f"127.0.0.1:{free_port()}") as one:
        yield one


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def chain_pem(chain: list[bytes]) -> bytes:
    return b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in chain)


def test_an_independent_client_gets_a_certificate_that_verifies(running: Running) -> None:
    key = new_key()
    with running.client() as client:
        answer = client.certify(make_csr(key), running.world.token())
    leaf, intermediate = map(x509.load_der_x509_certificate, answer.chain)
    assert leaf.public_key() == key.public_key()
    assert answer.bundles.bundles[0].trust_domain == "cluster.local"
    roots = [x509.load_der_x509_certificate(root) for root in answer.bundles.bundles[0].roots]
    policy = PolicyBuilder().store(Store(roots)).time(datetime.now(UTC))
    assert policy.build_client_verifier().verify(leaf, [intermediate])
    read = read_leaf(answer.chain[0])
    assert str(read.identity) == "spiffe://cluster.local/ns/emojivoto/sa/web"
    assert read.pod_uid == "uid-1"
    assert answer.not_after_millis == int(leaf.not_valid_after_utc.timestamp() * 1000)
    assert abs(answer.server_time_millis - time.time() * 1000) < 60_000


def test_renewal_shows_the_certificate_and_needs_the_same_pod(running: Running) -> None:
    key, world = new_key(), running.world
    with running.client() as client:
        chain = list(client.certify(make_csr(key), world.token("renews", "uid-r")).chain)
    with running.client(pem(key), chain_pem(chain)) as client:
        assert client.certify(make_csr(new_key()), world.token("renews", "uid-r")).chain
        for other in (world.token("renews", "uid-other"), world.token("admin", "uid-r2")):
            status, code = client.refusal(make_csr(new_key()), other)
            assert (status, code) == (grpc.StatusCode.PERMISSION_DENIED, "PEER_MISMATCH")
    kinds = [line["kind"] for line in world.lines() if line.get("podUID") == "uid-r" and "kind" in line]
    assert kinds[:2] == ["first", "renewal"]


def test_refusals_have_a_status_and_a_code(running: Running) -> None:
    key, world = new_key(), running.world
    foreign = world.token(pod_uid="uid-a", audience="other")
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")])
    asking = x509.CertificateSigningRequestBuilder().subject_name(named).sign(key, SHA256())
    gone = world.token("gone", "uid-gone")
    (world.pods / "gone-uid-gone.json").unlink()
    with running.client() as client:
        assert client.refusal(make_csr(key), "") == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        assert client.refusal(make_csr(key), foreign) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        denied = client.refusal(asking.public_bytes(Encoding.DER), world.token(pod_uid="uid-b"))
        assert denied == (grpc.StatusCode.PERMISSION_DENIED, "NAME_REFUSED")
        junk = client.refusal(b"junk", world.token(pod_uid="uid-c"))
        assert junk == (grpc.StatusCode.INVALID_ARGUMENT, "CSR_INVALID")
        assert client.refusal(make_csr(key), gone) == (grpc.StatusCode.PERMISSION_DENIED, "POD_GONE")


def test_id_05_a_thousand_requests_of_one_pod_leave_the_others_alone(running: Running) -> None:
    greedy, csr = running.world.token("greedy", "uid-greedy"), make_csr(new_key())
    others = [running.world.token("calm", f"uid-calm-{number}") for number in range(20)]
    with running.client() as client, running.client() as calm, ThreadPoolExecutor(8) as pool:

        def ask(_: int) -> grpc.StatusCode:
            try:
                client.certify(csr, greedy)
            except grpc.RpcError as error:
                status: grpc.StatusCode = error.code()
                return status
            return grpc.StatusCode.OK

        flood = [pool.submit(ask, number) for number in range(1000)]
        assert all(calm.certify(csr, token).chain for token in others)
        answers = [one.result() for one in flood]
    assert set(answers) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    # Five at once, and one more for each ten seconds that the flood took.
    assert 5 <= answers.count(grpc.StatusCode.OK) <= 5 + 6


def test_bundles_come_at_once_and_with_every_change(tmp_path: Path) -> None:
    world = World(tmp_path)
    create_root(tmp_path / "next", TRUST_DOMAIN)
    with serving(world) as running, running.client() as client:
        stream = client.watch()
        first = next(stream)
        assert len(first.bundles[0].roots) == 1
        path = world.root / "root.crt"
        both = (tmp_path / "next" / "root.crt").read_bytes() + path.read_bytes()
        (world.root / ".new").write_bytes(both)
        (world.root / ".new").rename(path)
        second = next(stream)
        assert len(second.bundles[0].roots) == 2
        assert second.sequence > first.sequence
        path.write_bytes(both[: len(both) // 3])  # half-written: passed over
        (world.root / "root.key").write_bytes((tmp_path / "next" / "root.key").read_bytes())
        (world.root / ".new").write_bytes((tmp_path / "next" / "root.crt").read_bytes())
        (world.root / ".new").rename(path)
        third = next(stream)
        assert list(third.bundles[0].roots) != list(first.bundles[0].roots)
        assert len(third.bundles[0].roots) == 1
        # The server itself now shows a chain of the new root.
        with running.client() as fresh:
            assert fresh.certify(make_csr(new_key()), world.token()).chain


def test_certificates_of_another_root_end_the_handshake(running: Running, tmp_path: Path) -> None:
    with serving(World(tmp_path)) as other, other.client() as client:
        key = new_key()
        chain = list(client.certify(make_csr(key), other.world.token()).chain)
    with running.client(pem(key), chain_pem(chain)) as client:
        status, _ = client.refusal(make_csr(new_key()), running.world.token(pod_uid="uid-x"))
        assert status is grpc.StatusCode.UNAVAILABLE


def test_nothing_older_than_tls_1_3(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.world.root / "root.crt"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", running.port), WAIT_SECONDS) as raw,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(raw, server_hostname=SERVER_NAME),
    ):
        pass


def test_an_ordinary_tls_client_verifies_the_server_by_name(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.world.root / "root.crt"))
    with (
        socket.create_connection(("127.0.0.1", running.port), WAIT_SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=SERVER_NAME) as tls,
    ):
        assert tls.version() == "TLSv1.3"
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    assert str(read_leaf(der).identity) == "spiffe://cluster.local/ns/policyd/sa/identity"


def test_metrics_say_what_was_issued_and_refused(running: Running, tmp_path: Path) -> None:
    with (
        serving(World(tmp_path), metricsListen=f"127.0.0.1:{(port := free_port())}") as one,
        one.client() as client,
    ):
        client.certify(make_csr(new_key()), one.world.token())
        client.refusal(make_csr(new_key()), "x")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_SECONDS) as answer:
            text = answer.read().decode()
    assert "identity_certify_seconds_count 1.0" in text
    assert 'identity_refusals_total{code="TOKEN_INVALID"} 1.0' in text
    assert 'identity_ca_not_after_seconds{ca="issuer"}' in text


def test_sigterm_ends_it_with_streams_open(tmp_path: Path) -> None:
    with serving(World(tmp_path)) as running, running.client() as client:
        stream = client.watch()
        next(stream)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_SECONDS) == 0


def test_id_09_after_a_kill_the_journal_says_issued_and_serials_differ(tmp_path: Path) -> None:
    world, csr = World(tmp_path), make_csr(new_key())
    with serving(world) as running, running.client() as client:
        client.certify(csr, world.token())
        running.process.kill()
        running.process.wait(WAIT_SECONDS)
    with serving(world) as running, running.client() as client:
        client.certify(csr, world.token())
    serials = [line["serial"] for line in world.lines()]
    assert len(serials) == len(set(serials)) == 4
    assert [line["kind"] for line in world.lines()] == ["own", "first", "own", "first"]
