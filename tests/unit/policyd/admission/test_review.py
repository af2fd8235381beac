"""AdmissionReviews over HTTPS: what the API server asks, and what nobody should send."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policyd.admission.app import application
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.handlers import injector, validator
from policyd.admission.injection import Injection
from policyd.admission.metrics import AdmissionMetrics
from policyd.admission.review import MOST_BYTES, Answer, rendered
from policyd.serving.certificate import Material, upkeep
from policyd.serving.server import Clients, WebServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ("127.0.0.1", "injector.policyd.svc")
NAMESPACES = {
    "books": NamespaceFacts("books", {"policyd.dev/inject": "enabled"}),
    "calm": NamespaceFacts("calm"),
}
Json = dict[str, Any]

POD: Json = {
    "metadata": {"generateName": "app-"},
    "spec": {"containers": [{"name": "app", "image": "app"}]},
}


def certificate() -> Material:
    return upkeep(None, NAMES, datetime.now(UTC))


def trusting(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode())


@contextlib.asynccontextmanager
async def serving(material: Material, clients: str | None = None) -> AsyncIterator[tuple[WebServer, str]]:
    injection = Injection()
    handlers = {
        "/inject": injector(injection, NAMESPACES.get, enrolled=False),
        "/inject/enrolled": injector(injection, NAMESPACES.get, enrolled=True),
        "/validate": validator,
    }
    server = WebServer(application(handlers, AdmissionMetrics()), Clients(clients) if clients else None)
    server.show(material)
    host, port = await server.open("127.0.0.1", 0)
    try:
        yield server, f"https://{host}:{port}"
    finally:
        await server.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    material = certificate()
    async with (
        serving(material) as (_, url),
        httpx.AsyncClient(base_url=url, verify=trusting(material.bundle)) as found,
    ):
        yield found


def review(
    written: object, resource: tuple[str, str] = ("", "pods"), namespace: str = "books", **more: object
) -> Json:
    group, plural = resource
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "resource": {"group": group, "version": "v1", "resource": plural},
        "operation": "CREATE",
        "namespace": namespace,
        "object": written,
        "userInfo": {"username": "ada"},
        **more,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def asked(client: httpx.AsyncClient, path: str, body: Json) -> Json:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["apiVersion"], answer["kind"]) == (body["apiVersion"], body["kind"])
    assert answer["response"]["uid"] == body["request"]["uid"]
    found: Json = answer["response"]
    return found


async def test_a_pod_gets_its_patch(client: httpx.AsyncClient) -> None:
    answer = await asked(client, "/inject/enrolled", review(POD))
    assert answer["allowed"] is True
    assert answer["patchType"] == "JSONPatch"
    operations = json.loads(base64.b64decode(answer["patch"]))
    assert {each["path"] for each in operations} >= {"/spec/initContainers", "/spec/volumes"}
    assert answer["auditAnnotations"] == {"proxy": "injected"}


async def test_a_refusal_names_field_value_and_what_was_expected(client: httpx.AsyncClient) -> None:
    pod = {**POD, "spec": {**POD["spec"], "hostNetwork": True}}
    answer = await asked(client, "/inject/enrolled", review(pod))
    assert answer["allowed"] is False
    assert answer["status"]["code"] == 422
    assert answer["status"]["details"]["causes"][0]["field"] == "spec.hostNetwork"
    assert "spec.hostNetwork: true" in answer["status"]["message"]


async def test_the_api_servers_word_counts_before_what_was_seen_of_a_namespace(
    client: httpx.AsyncClient,
) -> None:
    """The label is new, and our watch hasn't told it yet: the API server chose this webhook by it."""
    assert "patch" in await asked(client, "/inject/enrolled", review(POD, namespace="calm"))
    assert "patch" not in await asked(client, "/inject", review(POD, namespace="calm"))


async def test_of_a_namespace_that_is_not_known_no_pod_slips_through(client: httpx.AsyncClient) -> None:
    refused = await asked(client, "/inject/enrolled", review(POD, namespace="new"))
    assert refused["allowed"] is False
    assert "try again" in refused["status"]["message"]
    told = await asked(client, "/inject", review(POD, namespace="new"))
    assert (told["allowed"], len(told["warnings"])) == (True, 1)


async def test_a_policy_is_judged(client: httpx.AsyncClient) -> None:
    server = {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"name": "web"},
        "spec": {"podSelector": {}, "port": 70000},
    }
    answer = await asked(client, "/validate", review(server, ("policyd.dev", "servers")))
    assert answer["allowed"] is False
    (cause,) = answer["status"]["details"]["causes"]
    assert cause["field"] == "spec.port"
    assert cause["message"] == "70000 is no port: expected a number from 1 to 65535"


async def test_wh_05_a_debugging_container_does_not_get_around_the_proxy(client: httpx.AsyncClient) -> None:
    injected = await asked(client, "/inject/enrolled", review(POD))
    operations = json.loads(base64.b64decode(injected["patch"]))
    init = next(each["value"] for each in operations if each["path"] == "/spec/initContainers")
    for added, allowed in (
        ({"name": "debug", "image": "tools"}, True),
        ({"name": "debug", "image": "tools", "securityContext": {"runAsUser": 2102}}, False),
        ({"name": "debug", "image": "tools", "targetContainerName": "policyd-proxy"}, False),
        (
            {"name": "debug", "image": "tools", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
            False,
        ),
    ):
        pod = {**POD, "spec": {**POD["spec"], "initContainers": init, "ephemeralContainers": [added]}}
        body = review(pod, operation="UPDATE", subResource="ephemeralcontainers", oldObject=POD)
        answer = await asked(client, "/inject/enrolled", body)
        assert answer["allowed"] is allowed, added


async def test_wh_08_a_dry_run_is_answered_alike_and_called_one(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        dry = await asked(client, "/inject/enrolled", review(POD, dryRun=True))
        real = await asked(client, "/inject/enrolled", review(POD, dryRun=False))
    assert dry == real
    assert [each["event"] for each in lines] == ["dry_run", "admitted"]


GOOD = json.dumps(review(POD)).encode()
BAD: dict[str, bytes] = {
    "nothing": b"",
    "junk": b"\x00\xff\xfe junk",
    "text": b'"AdmissionReview"',
    "a list": b"[]",
    "cut off": GOOD[:-40],
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "deep inside": GOOD.replace(b'"object": {', b'"object": {"x": ' + b"[" * 200 + b"]" * 200 + b", "),
    "a key twice": GOOD.replace(b'"operation"', b'"uid": "other", "operation"'),
    "no number": GOOD.replace(b'"CREATE"', b"NaN"),
    "no request": b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
    "a request of null": b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}',
    "another version": GOOD.replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
    "another kind": GOOD.replace(b'"AdmissionReview"', b'"TokenReview"'),
    "no uid": GOOD.replace(b'"uid"', b'"id"'),
    "a uid of a megabyte": GOOD.replace(b"705ab4f5", b"7" * 2**20),
    "an object that is none": GOOD.replace(b'"object": {', b'"object": 7, "other": {'),
    "not UTF-8": GOOD.replace(b'"app"', b'"\xff"'),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("path", ["/inject", "/validate"])
async def test_wh_01_what_is_no_review_gets_400_and_harms_nothing(
    client: httpx.AsyncClient, path: str, what: str
) -> None:
    response = await client.post(path, content=BAD[what])
    assert response.status_code == 400
    assert len(response.text) < 1000
    assert (await client.post("/inject/enrolled", content=GOOD)).json()["response"]["allowed"] is True


async def test_wh_01_three_mebibytes_and_more(client: httpx.AsyncClient) -> None:
    response = await client.post("/inject", content=b"x" * (MOST_BYTES + 1))
    assert response.status_code == 413
    long = {**POD, "metadata": {"annotations": {"note": "x" * (2 * 2**20)}}}
    assert (await asked(client, "/inject/enrolled", review(long)))["allowed"] is True


async def test_wh_01_a_request_without_object_is_refused_with_its_uid(client: httpx.AsyncClient) -> None:
    for path in ("/inject", "/inject/enrolled", "/validate"):
        assert (await asked(client, path, review(None)))["allowed"] is False


@pytest.mark.parametrize(
    "written", [{}, {"spec": None}, {"spec": {"containers": None}}, {"spec": "text"}], ids=str
)
async def test_wh_01_a_pod_that_is_none_is_refused_in_words(client: httpx.AsyncClient, written: Json) -> None:
    answer = await asked(client, "/inject/enrolled", review(written))
    assert answer["allowed"] is False
    assert answer["status"]["details"]["causes"]


async def test_wh_01_half_an_escape_is_answered(client: httpx.AsyncClient) -> None:
    """JSON can hold half of a surrogate pair, which UTF-8 can't."""
    body = GOOD.replace(b'"generateName": "app-"', b'"annotations": {"policyd.dev/\\ud800": "\\ud800"}')
    answer = (await client.post("/inject/enrolled", content=body)).json()["response"]
    assert answer["allowed"] is False


async def test_only_what_the_api_server_asks_is_answered(client: httpx.AsyncClient) -> None:
    assert (await client.get("/inject")).status_code == 405
    assert (await client.post("/", content=GOOD)).status_code == 404


async def test_a_handler_that_fails_is_no_end() -> None:
    def broken(_: object) -> Answer:
        raise RuntimeError("a bug")

    server = WebServer(application({"/inject": broken}, AdmissionMetrics()))
    material = certificate()
    server.show(material)
    host, port = await server.open("127.0.0.1", 0)
    async with httpx.AsyncClient(verify=trusting(material.bundle)) as client:
        with structlog.testing.capture_logs() as lines:
            for _ in range(2):
                response = await client.post(f"https://{host}:{port}/inject", content=GOOD)
                assert (response.status_code, response.text) == (500, "internal error\n")
    assert [each["event"] for each in lines] == ["review_failed"] * 2
    await server.close()


def client_pair(material: Material) -> bytes:
    """A client's certificate of this authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key(material.authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]))
        .issuer_name(material.authority.parsed.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM) + secret


async def test_wh_02_only_who_has_the_api_servers_certificate_is_heard(tmp_path: Path) -> None:
    material, api_server, somebody = certificate(), certificate(), certificate()
    authority = api_server.authority.certificate.decode()
    async with serving(material, authority) as (_, url):
        async with httpx.AsyncClient(verify=trusting(material.bundle)) as client:
            with pytest.raises(httpx.TransportError):
                await client.post(f"{url}/inject", content=GOOD)
        for shown, heard in ((api_server, True), (somebody, False)):
            context = trusting(material.bundle)
            pair = tmp_path / "client.pem"
            pair.write_bytes(client_pair(shown))
            context.load_cert_chain(pair)
            async with httpx.AsyncClient(verify=context) as client:
                if heard:
                    assert (await client.post(f"{url}/inject", content=GOOD)).status_code == 200
                else:
                    with pytest.raises(httpx.TransportError):
                        await client.post(f"{url}/inject", content=GOOD)


async def test_wh_07_a_new_certificate_is_shown_and_no_connection_is_dropped() -> None:
    first = certificate()
    async with serving(first) as (server, url):
        async with httpx.AsyncClient(base_url=url, verify=trusting(first.bundle)) as early:
            assert (await early.post("/inject", content=GOOD)).status_code == 200
            second = certificate()
            server.show(second)
            connection = early._transport._pool.connections[0]  # type: ignore[attr-defined]
            assert (await early.post("/inject", content=GOOD)).status_code == 200
            assert early._transport._pool.connections == [connection]  # type: ignore[attr-defined]
        async with httpx.AsyncClient(base_url=url, verify=trusting(second.bundle)) as late:
            assert (await late.post("/inject", content=GOOD)).status_code == 200


async def test_warnings_are_few_and_short() -> None:
    answer = Answer(True, warnings=tuple(f"{index} " + "x" * 1000 for index in range(100)))
    warnings = json.loads(rendered("u", answer))["response"]["warnings"]
    assert len(warnings) == 17
    assert all(len(each) <= 256 for each in warnings)


async def test_policies_that_take_long_to_refuse_hold_up_no_pod(client: httpx.AsyncClient) -> None:
    """A tenant's biggest nonsense beside another's pods."""
    spec = {"identities": ["x"] * 150_000}
    nonsense = {"apiVersion": "policyd.dev/v1alpha1", "kind": "MeshTLSAuthentication", "spec": spec}
    body = json.dumps(review(nonsense, ("policyd.dev", "meshtlsauthentications"))).encode()
    refusing = asyncio.create_task(client.post("/validate", content=body, timeout=60))
    answered = 0
    while not refusing.done():
        assert (await asked(client, "/inject/enrolled", review(POD)))["allowed"] is True
        answered += 1
    answer = refusing.result().json()["response"]
    assert answer["allowed"] is False
    assert len(json.dumps(answer)) < 20_000
    assert answered >= 3
