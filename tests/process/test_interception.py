"""What a redirected pod sends and gets: pods in namespaces, a node, real processes (decision record 13)."""

from __future__ import annotations

import asyncio
import io
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from policyd.admission.probes import pointed
from policyd.resources.workload import Container
from policyd.serving.certificate import upkeep
from policyd.up.screen import Screen

from . import netns
from .intercepted import ADMIN, INBOUND, OUTBOUND, Application, Mesh, Pod, ask, connect, said
from .mesh import NOTHING, WAIT_SECONDS
from .netns import ELSEWHERE_V4, NODE_V4, NODE_V6, Link

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLUSTER_V4, CLUSTER_V6 = "10.96.0.10", "fd96::10"
PORT, UNDECLARED, OUTSIDE = 8080, 9999, 8099

POLICY = f"""
apiVersion: v1
kind: Service
metadata: {{name: cart, namespace: shop}}
spec:
  selector: {{app: cart}}
  clusterIP: {CLUSTER_V4}
  clusterIPs: [{CLUSTER_V4}, "{CLUSTER_V6}"]
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {{name: cart, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: cart}}}}
  port: http
  proxyProtocol: HTTP/1
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: web-may, namespace: shop}}
spec:
  targetRef: {{group: policyd.dev, kind: Server, name: cart}}
  requiredAuthenticationRefs: [{{kind: ServiceAccount, name: web}}]
  when: [{{path: {{prefix: /open}}}}]
---
"""
PLAINTEXT_DENIED = """
apiVersion: policyd.dev/v1alpha1
kind: MeshDefaults
metadata: {name: default}
spec: {outbound: {plaintext: Deny}}
---
"""
OLD_TLS, NEW_TLS, NO_TLS, NOBODY = 8442, 8443, 8444, 8445
DECLARED = {
    "name": "app",
    "image": "app",
    "ports": [{"name": "http", "containerPort": PORT}, {"name": "tls", "containerPort": NEW_TLS}],
    "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
    "livenessProbe": {"httpGet": {"path": "old-tls?deep=1", "port": OLD_TLS, "scheme": "HTTPS"}},
    "startupProbe": {
        "httpGet": {
            "path": "/new-tls",
            "port": "tls",
            "scheme": "HTTPS",
            "httpHeaders": [{"name": "host", "value": "cart.test"}, {"name": "X-Cart", "value": "full"}],
        }
    },
}
SIDECAR = {
    "name": "mute",
    "image": "mute",
    "livenessProbe": {"httpGet": {"port": NO_TLS, "scheme": "HTTPS"}},
    "readinessProbe": {"httpGet": {"port": NOBODY, "scheme": "HTTPS"}},
}


@dataclass
class World:
    """A mesh in which `web` may ask `cart` for /open, and an application outside the mesh."""

    mesh: Mesh
    web: Pod
    cart: Pod
    application: Application
    outside: Application
    before: dict[str, type[BaseException] | None]
    """What became of connections that were made before any proxy listened."""


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    netns.needed()
    made = Link()
    yield made
    made.remove()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    link: Link, runtime_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    manifests = tmp_path_factory.mktemp("manifests")
    (manifests / "policy.yaml").write_text(POLICY)
    screen = io.StringIO()
    mesh = Mesh(link, manifests)
    application, outside = Application(), Application()
    try:
        await mesh.start(Screen(verbose=True, stream=screen))
        container, probes = pointed(msgspec.convert(DECLARED, Container), DECLARED)
        mute, more = pointed(msgspec.convert(SIDECAR, Container), SIDECAR)
        web, cart = mesh.add("web", 11), mesh.add("cart", 12, container, mute)
        cart.settings = {"podAddress": cart.v4, "probes": [*probes, *more]}
        old, new = (_context(tmp_path_factory.mktemp("tls"), version) for version in TLS_VERSIONS)
        await application.listen(cart.namespace, cart.v4, OLD_TLS, old)
        await application.listen(cart.namespace, cart.v4, NEW_TLS, new)
        await application.listen(cart.namespace, cart.v4, NO_TLS)
        for address in ("0.0.0.0", "::"):
            await outside.listen(link.node, address, OUTSIDE)
        for address in (cart.v4, cart.v6):
            for port in (PORT, UNDECLARED):
                await application.listen(cart.namespace, address, port)
        for pod in (web, cart):
            pod.redirect()
        before = {
            "inbound": await _outcome(link.node, cart.v4, PORT),
            "outbound": await _outcome(web.namespace, NODE_V4, OUTSIDE),
        }
        for pod in (web, cart):
            await mesh.start_proxy(pod)
        yield World(mesh, web, cart, application, outside, before)
    except BaseException:
        sys.stdout.write(screen.getvalue())
        for pod in mesh.pods.values():
            sys.stdout.write("\n".join(map(str, pod.records)) + "\n")
        raise
    finally:
        await mesh.stop()
        await application.close()
        await outside.close()


@pytest.fixture(autouse=True)
def told(world: World) -> Iterator[None]:
    """Where a test fails, what the proxies wrote meanwhile."""
    pods = (world.web, world.cart)
    before = [len(pod.records) for pod in pods]
    yield
    for pod, count in zip(pods, before, strict=True):
        for record in pod.records[count:]:
            sys.stdout.write(f"{pod.name}: {record}\n")


TLS_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def _context(folder: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    """An application's own TLS, which nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    shown = upkeep(None, ["cart.test"], datetime.now(UTC)).leaf
    (folder / "own.pem").write_bytes(shown.key + shown.certificate)
    context.load_cert_chain(folder / "own.pem")
    return context


async def _outcome(namespace: netns.Namespace, host: str, port: int) -> type[BaseException] | None:
    try:
        _, writer = await connect(namespace, host, port)
    except OSError as error:
        return type(error)
    writer.transport.abort()
    return None


async def test_before_the_proxy_listens_everything_is_closed(world: World) -> None:
    assert world.before == {"inbound": ConnectionRefusedError, "outbound": ConnectionRefusedError}


@pytest.mark.parametrize("family", ["v4", "v6"])
async def test_a_cluster_address_leads_to_the_pod_under_mutual_tls(world: World, family: str) -> None:
    host = CLUSTER_V4 if family == "v4" else CLUSTER_V6
    answer = await world.web.ask(host, 80, f"/open/{family}")
    assert (answer.status, answer.body) == (200, f"/open/{family}".encode())
    refused = await world.web.ask(host, 80, "/closed")
    assert refused.status == 403
    denial = await world.cart.record(event="denial", id=refused.decision)
    assert denial["peer"]["identity"] == "spiffe://netns.test/ns/shop/sa/web"
    assert (denial["port"], denial["reason"]) == (PORT, "no_matching_rule")
    assert "/closed" not in [path for path, _ in world.application.asked]


@pytest.mark.parametrize("family", ["v4", "v6"])
async def test_t7_a_pods_own_address_is_meshed_too(world: World, family: str) -> None:
    host = world.cart.v4 if family == "v4" else world.cart.v6
    answer = await world.web.ask(host, PORT, f"/open/direct/{family}")
    assert answer.status == 200
    # The application is dialled at the address that was dialled, from that address.
    assert (f"/open/direct/{family}", host) in world.application.asked


@pytest.mark.parametrize("family", ["v4", "v6"])
async def test_l4_04_what_is_sent_straight_to_the_application_is_decided(world: World, family: str) -> None:
    host, source = (world.cart.v4, NODE_V4) if family == "v4" else (world.cart.v6, NODE_V6)
    answer = await ask(world.mesh.link.node, host, PORT, "/open/stranger", source)
    assert answer.status == 403
    denial = await world.cart.record(event="denial", id=answer.decision)
    assert (denial["reason"], denial["peer"]["ip"]) == ("no_identity", source)
    assert "/open/stranger" not in [path for path, _ in world.application.asked]


async def test_w3_a_port_that_nobody_declared_is_denied(world: World) -> None:
    answer = await ask(world.mesh.link.node, world.cart.v4, UNDECLARED, "/undeclared")
    assert answer.status == 403
    denial = await world.cart.record(event="denial", id=answer.decision)
    assert (denial["port"], denial["reason"]) == (UNDECLARED, "no_matching_rule")
    assert await said(world.mesh.link.node, world.cart.v6, UNDECLARED, b"*1\r\n") == b""
    await world.cart.record(event="denial", port=UNDECLARED, request=None)
    assert "/undeclared" not in [path for path, _ in world.application.asked]


async def test_w3_the_admin_port_is_behind_inbound_policy(world: World) -> None:
    answer = await ask(world.mesh.link.node, world.cart.v4, ADMIN, "/metrics")
    assert answer.status == 403
    denial = await world.cart.record(event="denial", id=answer.decision)
    assert denial["port"] == ADMIN


async def test_l4_19_a_connection_to_the_proxys_own_port_is_refused_and_counted(world: World) -> None:
    name, labels = "policyd_strays_total", 'direction="inbound",kind="direct"'
    before = await world.cart.metric(name, labels)
    node, cart = world.mesh.link.node, world.cart
    assert await ask(node, cart.v4, INBOUND, "/open") == NOTHING
    assert await ask(node, cart.v6, INBOUND, "/open") == NOTHING
    # From inside the pod nothing is redirected on the way: the port itself is dialled.
    for host in ("127.0.0.1", "::1", cart.v4):
        assert await cart.ask(host, INBOUND, "/open") == NOTHING
    # Another pod's proxy, asked to go there, isn't let in either.
    assert (await world.web.ask(cart.v4, INBOUND, "/open")).status in (0, 502)
    assert await cart.metric(name, labels) >= before + 6
    assert await cart.ask("127.0.0.1", OUTBOUND, "/open") == NOTHING
    assert await cart.metric(name, 'direction="outbound",kind="direct"') == 1


@pytest.mark.parametrize("host", [NODE_V4, NODE_V6])
async def test_an_unknown_address_is_reached_as_it_is(world: World, host: str) -> None:
    answer = await world.web.ask(host, OUTSIDE, "/outside")
    assert (answer.status, answer.body) == (200, b"/outside")
    asked = [source.removeprefix("::ffff:") for path, source in world.outside.asked if path == "/outside"]
    assert world.web.v4 in asked or world.web.v6 in asked


async def test_what_nobody_answers_for_is_an_error_and_no_denial(world: World) -> None:
    answer = await world.web.ask(CLUSTER_V4, 81, "/no-such-port")
    assert answer.status == 502
    assert answer.decision not in [record.get("id") for record in world.web.records]


async def test_a_pod_calls_itself_through_its_service(world: World) -> None:
    answer = await world.cart.ask(CLUSTER_V4, 80, "/itself")
    assert (answer.status, answer.body) == (200, b"/itself")


async def test_t6_a_probe_comes_from_the_bridge_and_from_nowhere_else(world: World) -> None:
    node, cart = world.mesh.link.node, world.cart
    for host, source in ((cart.v4, NODE_V4), (cart.v6, NODE_V6)):
        assert (await ask(node, host, PORT, "/healthz", source)).status == 200
        assert (await ask(node, host, PORT, "/healthz/more", source)).status == 403
        assert (await ask(node, host, UNDECLARED, "/healthz", source)).status == 403
    assert (await ask(node, cart.v4, PORT, "/healthz", ELSEWHERE_V4)).status == 403
    assert (await world.web.ask(cart.v4, PORT, "/healthz")).status == 403


async def test_t6_a_probe_by_tls_is_made_by_the_proxy_for_the_kubelet_alone(world: World) -> None:
    node, cart = world.mesh.link.node, world.cart
    for field, path in (("livenessProbe", "/old-tls?deep=1"), ("startupProbe", "/new-tls")):
        asked = f"/probes/app/{field}"
        answer = await ask(node, cart.v4, ADMIN, asked, NODE_V4)
        assert (answer.status, answer.body) == (200, path.encode())
        assert (await ask(node, cart.v4, ADMIN, asked, ELSEWHERE_V4)).status == 403
        assert (await world.web.ask(cart.v4, ADMIN, asked)).status == 403
    head = world.application.heads["/new-tls"].lower()
    assert "\r\nhost: cart.test\r\n" in head
    assert "\r\nx-cart: full\r\n" in head
    assert f"\r\nhost: {cart.v4}:{OLD_TLS}\r\n" in world.application.heads["/old-tls?deep=1"].lower()
    assert (await ask(node, cart.v4, ADMIN, "/probes/app/readinessProbe", NODE_V4)).status == 403
    mute = await ask(node, cart.v4, ADMIN, "/probes/mute/livenessProbe", NODE_V4)
    assert (mute.status, mute.body) == (504, b"probe by TLS of port 8444: no answer within 1 s\n")
    nobody = await ask(node, cart.v4, ADMIN, "/probes/mute/readinessProbe", NODE_V4)
    assert (nobody.status, nobody.body[:28]) == (502, b"probe by TLS of port 8445: C")


async def test_l4_19_a_loop_is_ended_and_counted_where_the_users_rule_is_missing(world: World) -> None:
    name, labels = "policyd_strays_total", 'direction="outbound",kind="loop"'
    before = await world.web.metric(name, labels)
    connections = await world.web.metric("policyd_outbound_connections_total")
    world.web.redirect("--uid", "4242")
    try:
        assert (await world.web.ask(NODE_V4, OUTSIDE, "/loop")).status in (0, 502)
    finally:
        world.web.redirect()
    assert await world.web.metric(name, labels) > before
    # One connection of the application's, and none of our own behind it.
    assert await world.web.metric("policyd_outbound_connections_total") == connections + 1
    assert "/loop" not in [path for path, _ in world.outside.asked]
    assert (await world.web.ask(NODE_V4, OUTSIDE, "/again")).status == 200


async def test_the_proxy_is_known_to_the_check_while_it_runs(world: World) -> None:
    assert world.web.redirect("--check") == "redirected (nf_tables)\n"
    assert world.web.redirect() == "redirected (nf_tables)\n"
    assert (await world.web.ask(CLUSTER_V4, 80, "/open/after")).status == 200


async def test_many_addresses_at_once_are_asked_for_together(world: World) -> None:
    hosts = [world.cart.v4] * 40
    answers = await asyncio.gather(
        *(world.web.ask(host, 20_000 + at, "/nobody") for at, host in enumerate(hosts))
    )
    # Nobody listens there, and nobody may: the other side's proxy says so.
    assert {answer.status for answer in answers} == {403}


async def test_t7_plaintext_out_of_the_mesh_is_forbidden_where_meshdefaults_says_so(world: World) -> None:
    (world.mesh.manifests / "mesh.yaml").write_text(PLAINTEXT_DENIED)
    async with asyncio.timeout(WAIT_SECONDS):
        while (answer := await world.web.ask(NODE_V4, OUTSIDE, "/forbidden")).status == 200:
            await asyncio.sleep(0.02)  # the table's arrival has no event in this process
    assert answer.status == 502
    denial = await world.web.record(event="denial", id=answer.decision)
    assert (denial["direction"], denial["reason"]) == ("outbound", "no_identity")
    assert denial["service"] == f"{NODE_V4}:{OUTSIDE}"
    assert (await world.web.ask(CLUSTER_V4, 80, "/open/still")).status == 200
    assert (await world.cart.ask(CLUSTER_V4, 80, "/itself/still")).status == 200
