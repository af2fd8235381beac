"""Where services are, and who must answer there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policyd.distribute.discovery import Discovery
from policyd.distribute.facts import facts_of
from policyd.index.world import World
from policyd.model.names import CORE, ObjectKey
from policyd.resources.base import Resource
from policyd_api.v1 import stream_pb2 as wire

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports:
    - {name: http, port: 80, targetPort: http}
    - {name: raw, port: 81, targetPort: 9000}
    - {name: same, port: 82}
    - {name: udp, port: 83, protocol: UDP}
---
"""


def _pod(name: str, address: str, namespace: str = "shop", phase: str = "Running", proxy: bool = True) -> str:
    sidecar = ", {name: policyd-proxy}" if proxy else ""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, uid: uid-{name}, labels: {{app: cart}}}}
spec:
  serviceAccountName: {name}-sa
  nodeName: node-1
  containers: [{{name: cart, ports: [{{name: http, containerPort: 8080}}]}}{sidecar}]
status: {{phase: {phase}, podIP: "{address}", hostIP: 10.9.0.1}}
---
"""


EXTERNAL = """
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: vm, namespace: shop, labels: {app: cart}}
spec:
  meshTLS: {identity: "spiffe://test/ns/shop/sa/vm", serverName: vm}
  workloadIPs: [{ip: 10.0.0.1}]
  ports: [{name: http, port: 7000}]
---
"""


def _endpoints(world: World, service: str) -> list[tuple[str, int, str, str]]:
    discovery = Discovery(world, "test", lambda _member, number: "HTTP/1" if number == 8080 else "unknown")
    (found,) = wire.Discovery.FromString(discovery.of([service])).services
    return [(each.address, each.port, each.identity, each.protocol) for each in found.endpoints]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (80, [("10.0.0.1", 8080, "spiffe://test/ns/shop/sa/a-sa", "HTTP/1")]),
        (81, [("10.0.0.1", 9000, "spiffe://test/ns/shop/sa/a-sa", "unknown")]),
        (82, [("10.0.0.1", 82, "spiffe://test/ns/shop/sa/a-sa", "unknown")]),
        (83, []),
        (99, []),
    ],
)
def test_target_ports(
    world: Callable[[str], World], port: int, expected: list[tuple[str, int, str, str]]
) -> None:
    assert _endpoints(world(SERVICE + _pod("a", "10.0.0.1")), f"shop/cart:{port}") == expected


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
endpoints:
  - {addresses: [10.0.0.1], conditions: {ready: true}}
  - {addresses: [10.0.0.2], conditions: {ready: false}}
  - {addresses: [10.0.0.9], conditions: {ready: true}}
---
"""


def test_slices_take_endpoints_away_and_add_none(world: Callable[[str], World]) -> None:
    pods = _pod("a", "10.0.0.1") + _pod("b", "10.0.0.2")
    assert [row[0] for row in _endpoints(world(SERVICE + pods), "shop/cart:80")] == ["10.0.0.1", "10.0.0.2"]
    assert [row[0] for row in _endpoints(world(SERVICE + pods + SLICE), "shop/cart:80")] == ["10.0.0.1"]
    elsewhere = SLICE.replace("namespace: shop", "namespace: other")
    assert len(_endpoints(world(SERVICE + pods + elsewhere), "shop/cart:80")) == 2
    unready = SLICE.replace("ready: true", "ready: false")
    assert _endpoints(world(SERVICE + pods + unready), "shop/cart:80") == []
    external = EXTERNAL.replace("10.0.0.1", "10.0.0.7")
    assert [row[0] for row in _endpoints(world(SERVICE + external + unready), "shop/cart:80")] == ["10.0.0.7"]


def test_only_running_pods_of_the_services_own_namespace(world: Callable[[str], World]) -> None:
    made = world(
        SERVICE
        + _pod("b", "10.0.0.2")
        + _pod("a", "10.0.0.1")
        + _pod("c", "10.0.0.3", phase="Pending")
        + _pod("d", "10.0.0.4", namespace="other")
        + _pod("e", "10.0.0.5", proxy=False)
    )
    found = _endpoints(made, "shop/cart:80")
    assert [(address, identity[-4:]) for address, _, identity, _ in found] == [
        ("10.0.0.1", "a-sa"),
        ("10.0.0.2", "b-sa"),
        ("10.0.0.5", ""),
    ]


def test_a_pods_address_beats_an_external_workloads(world: Callable[[str], World]) -> None:
    alone = _endpoints(world(SERVICE + EXTERNAL), "shop/cart:80")
    assert alone == [("10.0.0.1", 7000, "spiffe://test/ns/shop/sa/vm", "unknown")]
    both = _endpoints(world(SERVICE + EXTERNAL + _pod("a", "10.0.0.1")), "shop/cart:80")
    assert [identity for _, _, identity, _ in both] == ["spiffe://test/ns/shop/sa/a-sa"]


def test_an_unknown_service_has_nobody(world: Callable[[str], World]) -> None:
    assert _endpoints(world(SERVICE), "shop/nobody:80") == []


def test_the_same_question_in_any_order_has_the_same_bytes(world: Callable[[str], World]) -> None:
    made = world(SERVICE + _pod("a", "10.0.0.1"))
    services = ["shop/cart:80", "shop/cart:81"]
    one, other = (Discovery(made, "test", lambda *_: "unknown") for _ in range(2))
    assert one.of(services) == other.of([*reversed(services), services[0]])


@pytest.mark.parametrize(("plaintext", "expected"), [("Deny", "Deny"), ("Allow", "Allow"), (None, "Allow")])
def test_outbound_plaintext(world: Callable[[str], World], plaintext: str | None, expected: str) -> None:
    text = "apiVersion: policyd.dev/v1alpha1\nkind: MeshDefaults\nmetadata: {name: default}\n"
    text += f"spec: {{outbound: {{plaintext: {plaintext}}}}}" if plaintext else "spec: {}"
    message = wire.Discovery.FromString(Discovery(world(text), "test", lambda *_: "unknown").of([]))
    assert message.outbound_plaintext == expected


def test_pod_facts(world: Callable[[str], World]) -> None:
    """T6: the node's addresses, the first of each of its pod networks, the host's."""
    node = """
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.244.3.0/24, "fd01::/64", nonsense]}
status: {addresses: [{type: InternalIP, address: 10.9.0.2}, {type: Hostname, address: node-1}]}
"""
    made = world(_pod("a", "::ffff:10.0.0.1") + node)
    found = made.objects[ObjectKey(CORE, "Pod", "shop", "a")]
    assert isinstance(found, Resource)
    facts = wire.PodFacts.FromString(facts_of(made, found))
    assert (facts.uid, facts.name, list(facts.addresses)) == ("uid-a", "a", ["10.0.0.1"])
    assert list(facts.probe_addresses) == ["10.244.3.1", "10.9.0.1", "10.9.0.2", "fd01::1"]
