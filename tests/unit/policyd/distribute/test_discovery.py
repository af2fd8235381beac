"""Where services are, and who must answer there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policyd.distribute.discovery import Discovery
from policyd.distribute.facts import facts_of
from policyd.distribute.pods import Backends
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
    (found,) = wire.Discovery.FromString(discovery.of([service], "shop")).services
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
    assert one.of(services, "shop") == other.of([*reversed(services), services[0]], "shop")


@pytest.mark.parametrize(("plaintext", "expected"), [("Deny", "Deny"), ("Allow", "Allow"), (None, "Allow")])
def test_outbound_plaintext(world: Callable[[str], World], plaintext: str | None, expected: str) -> None:
    text = "apiVersion: policyd.dev/v1alpha1\nkind: MeshDefaults\nmetadata: {name: default}\n"
    text += f"spec: {{outbound: {{plaintext: {plaintext}}}}}" if plaintext else "spec: {}"
    message = wire.Discovery.FromString(Discovery(world(text), "test", lambda *_: "unknown").of([], "shop"))
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


CLUSTER_IPS = SERVICE.replace("spec:\n", "spec:\n  clusterIPs: [10.96.0.7, 'fd00:96::7']\n")


def _at(
    world: World, address: str, own: tuple[str, ...] = (), namespace: str = "shop"
) -> tuple[str, list[tuple[str, str, bool]]]:
    discovery = Discovery(world, "test", lambda _member, number: "HTTP/1" if number == 8080 else "unknown")
    (found,) = wire.Discovery.FromString(discovery.of([address], namespace, own)).services
    assert found.service == address
    return found.name, [(f"{each.address}:{each.port}", each.identity, each.own) for each in found.endpoints]


A_SA = "spiffe://test/ns/shop/sa/a-sa"


@pytest.mark.parametrize("address", ["10.96.0.7:80", "[fd00:96::7]:80", "[::ffff:10.96.0.7]:80"])
def test_a_cluster_address_is_its_services_endpoints(world: Callable[[str], World], address: str) -> None:
    found = _at(world(CLUSTER_IPS + _pod("a", "10.0.0.1")), address)
    assert found == ("shop/cart:80", [("10.0.0.1:8080", A_SA, False)])


def test_a_port_that_a_service_does_not_have_is_nobodys(world: Callable[[str], World]) -> None:
    assert _at(world(CLUSTER_IPS + _pod("a", "10.0.0.1")), "10.96.0.7:99")[1] == []


@pytest.mark.parametrize("phase", ["Running", "Pending", "Unknown"])
def test_t7_a_pods_address_is_that_pod_from_its_first_moment(
    world: Callable[[str], World], phase: str
) -> None:
    found = _at(world(_pod("a", "10.0.0.1", phase=phase)), "10.0.0.1:9999")
    assert found == ("", [("10.0.0.1:9999", A_SA, False)])


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_the_address_of_a_pod_that_has_ended_is_not_its_own(
    world: Callable[[str], World], phase: str
) -> None:
    assert _at(world(_pod("a", "10.0.0.1", phase=phase)), "10.0.0.1:80")[1] == [("10.0.0.1:80", "", False)]


def test_an_address_given_out_again_is_the_running_pods(world: Callable[[str], World]) -> None:
    old, new = _pod("b", "10.0.0.1", phase="Pending"), _pod("a", "10.0.0.1")
    assert _at(world(old + new), "10.0.0.1:80")[1] == [("10.0.0.1:80", A_SA, False)]


def test_two_identities_at_one_address_are_nobody(world: Callable[[str], World]) -> None:
    assert _at(world(_pod("a", "10.0.0.1") + _pod("b", "10.0.0.1")), "10.0.0.1:80")[1] == []


def test_an_unknown_address_is_itself_without_an_identity(world: Callable[[str], World]) -> None:
    assert _at(world(SERVICE), "192.0.2.7:443") == ("", [("192.0.2.7:443", "", False)])


def test_on_a_port_where_the_server_speaks_first_nothing_is_awaited(world: Callable[[str], World]) -> None:
    (found,) = wire.Discovery.FromString(
        Discovery(world(SERVICE), "test", lambda *_: "unknown").of(["192.0.2.7:3306"], "shop")
    ).services
    assert found.endpoints[0].protocol == "opaque"


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000", "cart:80", "[10.0.0.1]:", ""])
def test_what_is_no_address_is_nobody(world: Callable[[str], World], text: str) -> None:
    assert _at(world(SERVICE + _pod("a", "10.0.0.1")), text) == ("", [])


def test_the_asking_pod_itself_is_said_to_be(world: Callable[[str], World]) -> None:
    text = CLUSTER_IPS + _pod("a", "10.0.0.1") + _pod("b", "10.0.0.2")
    name, endpoints = _at(world(text), "10.96.0.7:80", own=("10.0.0.1",))
    assert name == "shop/cart:80"
    assert endpoints == [
        ("10.0.0.1:8080", "", True),
        ("10.0.0.2:8080", "spiffe://test/ns/shop/sa/b-sa", False),
    ]
    assert _at(world(text), "10.96.0.7:80")[1][0] == ("10.0.0.1:8080", A_SA, False)


WITHOUT_SELECTOR = CLUSTER_IPS.replace("  selector: {app: cart}\n", "")
LISTED = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-own, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: raw, port: 9000, protocol: TCP}, {name: udp, port: 1, protocol: UDP}]
endpoints:
  - {addresses: [10.0.0.1]}
  - {addresses: [10.0.0.2], conditions: {ready: false}}
  - {addresses: [192.0.2.9, not-an-address]}
---
"""
NOBODYS = ("192.0.2.9:8080", "", False)


def test_a_service_without_a_selector_leads_where_its_slices_say(world: Callable[[str], World]) -> None:
    made = world(WITHOUT_SELECTOR + LISTED + _pod("a", "10.0.0.1"))
    assert _at(made, "10.96.0.7:80") == ("shop/cart:80", [("10.0.0.1:8080", A_SA, False), NOBODYS])
    assert [row[:2] for row in _endpoints(made, "shop/cart:81")] == [("10.0.0.1", 9000), ("192.0.2.9", 9000)]
    assert _endpoints(made, "shop/cart:82") == _endpoints(made, "shop/cart:83") == []
    assert [row[3] for row in _endpoints(made, "shop/cart:80")] == ["HTTP/1", "unknown"]


def test_an_endpoint_that_another_namespaces_pod_has_is_left_out(
    world: Callable[[str], World],
) -> None:
    text = WITHOUT_SELECTOR + LISTED
    there = _pod("a", "10.0.0.1", namespace="other")
    assert _at(world(text + there), "10.96.0.7:80")[1] == [NOBODYS]
    unmeshed = _pod("a", "10.0.0.1", namespace="other", proxy=False)
    assert _at(world(text + unmeshed), "10.96.0.7:80")[1] == [NOBODYS]
    # An address of a node is nobody's own: the API server's Service leads to one.
    node = unmeshed.replace("  nodeName", "  hostNetwork: true\n  nodeName")
    found = _at(world(text + node), "10.96.0.7:80")[1]
    assert found == [("10.0.0.1:8080", "", False), NOBODYS]
    both = _pod("b", "10.0.0.1") + _pod("a", "10.0.0.1")
    assert _at(world(text + both), "10.96.0.7:80")[1] == [NOBODYS]


def test_a_service_that_nothing_is_known_of_is_the_nodes_business(world: Callable[[str], World]) -> None:
    assert _at(world(WITHOUT_SELECTOR), "10.96.0.7:80") == ("", [("10.96.0.7:80", "", False)])
    unready = LISTED.replace("endpoints:", "endpoints: []\nwas:")
    assert _at(world(WITHOUT_SELECTOR + unready), "10.96.0.7:80") == ("shop/cart:80", [])


@pytest.mark.promise("P-8")
def test_an_address_that_an_external_workload_claims_is_its_own_namespaces_affair(
    world: Callable[[str], World],
) -> None:
    found = world(EXTERNAL)
    assert _at(found, "10.0.0.1:7000")[1] == [("10.0.0.1:7000", "spiffe://test/ns/shop/sa/vm", False)]
    assert _at(found, "10.0.0.1:7000", namespace="other")[1] == [("10.0.0.1:7000", "", False)]


def _on_node(name: str, namespace: str, proxy: bool) -> str:
    return _pod(name, "10.9.0.1", namespace, proxy=proxy).replace(
        "  nodeName", "  hostNetwork: true\n  nodeName"
    )


@pytest.mark.promise("P-8")
def test_a_nodes_address_is_no_pods_own_whatever_its_containers_are_called(
    world: Callable[[str], World],
) -> None:
    node = [("10.9.0.1:9100", "", False)]
    assert _at(world(_on_node("a", "shop", False) + _on_node("b", "other", True)), "10.9.0.1:9100")[1] == node
    external = EXTERNAL.replace("10.0.0.1", "10.9.0.1")
    both = _at(world(_on_node("b", "other", True) + external), "10.9.0.1:7000")[1]
    assert both == [("10.9.0.1:7000", "spiffe://test/ns/shop/sa/vm", False)]


@pytest.mark.promise("P-8")
def test_answers_follow_the_world_and_nothing_is_looked_up_again_for_a_policy(
    world: Callable[[str], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world(CLUSTER_IPS + _pod("a", "10.0.0.1"))
    discovery = Discovery(made, "test", lambda *_: "unknown")
    looked = 0
    backends = Backends.__init__

    def counted(*given: object) -> None:
        nonlocal looked
        looked += 1
        backends(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Backends, "__init__", counted)

    def at() -> list[str]:
        (found,) = wire.Discovery.FromString(discovery.of(["10.96.0.7:80"], "shop")).services
        return [endpoint.address for endpoint in found.endpoints]

    def change(text: str, *kinds: tuple[str, str]) -> None:
        made.apply((each.key, each) for each in world(text).objects.values())
        discovery.changed(set(kinds))

    assert (at(), looked) == (["10.0.0.1"], 1)
    change(_pod("b", "10.0.0.2"), ("", "Pod"))
    assert (at(), looked) == (["10.0.0.1", "10.0.0.2"], 2)
    change(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x, namespace: shop}\n", ("", "ServiceAccount")
    )
    assert (at(), looked) == (["10.0.0.1", "10.0.0.2"], 2)
    ended = _pod("b", "10.0.0.2", phase="Failed")
    change(
        ended + SERVICE.replace("spec:\n", "spec:\n  clusterIP: 10.96.0.7\n"), ("", "Pod"), ("", "Service")
    )
    assert (at(), looked) == (["10.0.0.1"], 3)
