"""Who owns a port, and what it is without an owner."""

import pytest

from policyd.compile.access import is_wider, meet
from policyd.compile.annotations import MOST_OPAQUE
from policyd.compile.rows import Access, ClusterConditions, Effect, Level, ProbeKind, Protocol
from policyd.compile.unused import without_effect
from policyd.model.names import WorkloadName
from tests.unit.policyd.compile.worlds import (
    DEPLOYMENT,
    SERVER,
    WEB,
    codes,
    compiled,
    mesh,
    policy,
    port,
    rules,
    server,
)

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: books, annotations: {}}}\n"


@pytest.mark.shows("W4")
@pytest.mark.parametrize(
    ("given", "effective"),
    [
        ([], Access.DENY),
        ([Access.AUDIT, Access.ALL_UNAUTHENTICATED], Access.AUDIT),
        ([Access.AUDIT, Access.CLUSTER_UNAUTHENTICATED], Access.CLUSTER_UNAUTHENTICATED),
        ([Access.AUDIT, Access.DENY], Access.DENY),
        ([Access.ALL_AUTHENTICATED, Access.CLUSTER_UNAUTHENTICATED], Access.CLUSTER_AUTHENTICATED),
    ],
)
def test_the_default_is_what_all_grant(given: list[Access], effective: Access) -> None:
    assert meet(given) is effective
    assert not any(is_wider(effective, bound) for bound in given)


@pytest.mark.shows("W4")
def test_an_annotation_narrows_and_never_widens() -> None:
    narrow = NAMESPACE.format("{policyd.dev/default-access: cluster-authenticated}")
    unknown = NAMESPACE.format("{config.linkerd.io/default-inbound-policy: whatever}")
    bound = mesh("{defaultAccess: all-unauthenticated, maxDefault: all-authenticated}")
    assert port(compiled(DEPLOYMENT, bound), 1).access is Access.ALL_AUTHENTICATED
    assert port(compiled(DEPLOYMENT, bound, narrow), 1).access is Access.CLUSTER_AUTHENTICATED
    found = compiled(DEPLOYMENT, bound, unknown)
    assert port(found, 1).access is Access.DENY


@pytest.mark.shows("W2", "W7")
def test_pc_06_of_two_servers_on_one_port_the_older_wins() -> None:
    old = server("zeta", meta=", creationTimestamp: '2026-01-01T00:00:00Z'")
    young = server("alpha", meta=", creationTimestamp: '2026-02-01T00:00:00Z'")
    found = compiled(DEPLOYMENT, young, old)
    assert port(found, 8080).server == "server.policyd.dev/books/zeta"
    assert codes(found) == {"PortConflict"}
    undated = compiled(DEPLOYMENT, server("zeta"), server("alpha"))
    assert port(undated, 8080).server == "server.policyd.dev/books/alpha"


@pytest.mark.shows("W2", "U3")
def test_an_unreadable_server_owns_its_port_and_refuses_there() -> None:
    found = compiled(DEPLOYMENT, server("broken", ", accessPolicy: sometimes, proxyProtocol: opaque"))
    assert port(found, 8080).protocol is Protocol.UNKNOWN
    assert [(rule.effect, rule.level) for rule in rules(found, 8080)] == [(Effect.REFUSE, Level.SERVER)]
    assert rules(found, 9090) == []


@pytest.mark.shows("U3")
def test_a_server_without_a_readable_port_refuses_where_no_other_owns() -> None:
    lost = (
        server("lost")
        .replace("port: http", "port: 0")
        .replace("podSelector: {}", "podSelector: {matchLabels: {a: b}}")
    )
    found = compiled(DEPLOYMENT, SERVER, lost)
    assert rules(found, 8080) == []
    assert [rule.authorization for rule in rules(found, 9090)] == ["server.policyd.dev/books/lost"]
    assert [rule.effect for rule in rules(found, 4)] == [Effect.REFUSE]


def test_a_name_that_no_container_has_owns_nothing() -> None:
    found = compiled(DEPLOYMENT, server("http").replace("port: http", "port: grpc"))
    assert all(not each.server for each in found.tables[WEB].workload.ports)


@pytest.mark.shows("T3")
def test_opaque_ports_and_what_conditions_of_the_cluster_mean_on_them() -> None:
    annotated = NAMESPACE.format("{config.linkerd.io/opaque-ports: '3306, 7000-7001, admin'}")
    found = compiled(DEPLOYMENT, annotated)
    said = {number: port(found, number).cluster_conditions for number in (3306, 7001, 9090, 25, 8080)}
    assert said == {
        3306: ClusterConditions.PASS_OVER,
        7001: ClusterConditions.SATISFIED,
        9090: ClusterConditions.SATISFIED,
        25: ClusterConditions.EVALUATE,
        8080: ClusterConditions.EVALUATE,
    }
    assert port(found, 3306).protocol is Protocol.OPAQUE
    assert port(compiled(DEPLOYMENT), 25).protocol is Protocol.OPAQUE


def test_where_most_ports_are_opaque_the_others_are_listed() -> None:
    found = compiled(DEPLOYMENT, NAMESPACE.format("{policyd.dev/opaque-ports: 1-65000}"))
    table = found.tables[WEB].workload
    assert table.other.protocol is Protocol.OPAQUE
    assert {each.number for each in table.ports} == {
        *range(65001, 65536),
        *(25, 587, 3306, 4444, 5432, 6379, 9300, 11211),
    }


@pytest.mark.shows("T3")
def test_on_an_opaque_server_conditions_are_unreadable_and_those_of_the_namespace_pass_over() -> None:
    when = ", when: [{path: {prefix: /a}}]"
    found = compiled(
        DEPLOYMENT,
        server("http", ", proxyProtocol: opaque"),
        policy("grant", when),
        policy("ban", f", action: Deny{when}"),
        policy("over", f", action: Deny{when}", target="Namespace/books"),
        policy("all", ", action: Deny", target="Namespace/books"),
    )
    assert [(rule.effect, rule.authorization.rpartition("/")[2]) for rule in rules(found, 8080)] == [
        (Effect.REFUSE, "ban"),
        (Effect.DENY, "all"),
    ]
    assert "NothingIsRead" in codes(found)


@pytest.mark.shows("T6")
def test_probes_are_those_that_reach_the_pod_in_plaintext() -> None:
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: solo, namespace: books}
spec:
  containers:
  - name: a
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: 'ready?a=b', port: http, httpHeaders: [{name: X-Probe, value: y}]}}
    livenessProbe: {httpGet: {path: /live, port: 8443, scheme: HTTPS}}
    startupProbe: {grpc: {port: 9000, service: health}}
  - name: b
    livenessProbe: {tcpSocket: {port: 9001}}
    readinessProbe: {httpGet: {path: /, port: 80, host: elsewhere}}
    startupProbe: {exec: {command: [true]}}
"""
    found = compiled(pod.replace("[true]", "['true']"))
    name = WorkloadName("pod", "books", "solo")
    (http,) = port(found, 8080, name).probes
    assert (http.kind, http.target, http.headers) == (ProbeKind.HTTP, "/ready?a=b", ("x-probe",))
    assert port(found, 9000, name).probes[0].service == "health"
    assert port(found, 9001, name).probes[0].kind is ProbeKind.TCP
    listed = {each.number for each in found.tables[name].workload.ports if each.probes}
    assert listed == {8080, 9000, 9001}


@pytest.mark.promise("P-8")
@pytest.mark.shows("T3")
@pytest.mark.parametrize(
    ("listed", "opaque"),
    [
        ("1-1024", True),
        ("1-1025", False),
        (",".join(["1-1000"] * 30), True),
        ("1-65535", True),
        ("1-64511", True),
        ("1-64510", False),
        ("1-65535," * 30_000, True),
    ],
    ids=["at the bound", "beyond", "the same again", "all", "all but some", "all but too many", "all, often"],
)
def test_more_opaque_ports_than_a_table_can_list_are_none_and_said_to_be(listed: str, opaque: bool) -> None:
    text = NAMESPACE.format(f'{{policyd.dev/opaque-ports: "{listed}"}}') + "---" + DEPLOYMENT
    compiler = compiled(text)
    row = port(compiler, 1000)
    assert (row.protocol is Protocol.OPAQUE) is opaque
    said = {
        finding.code
        for each in compiler.world.objects.values()
        for finding in without_effect(compiler.world, each)
    }
    assert ("UnknownAnnotationValue" in said) is not opaque
    of_mesh = 20
    assert len(compiler.tables[WEB].workload.ports) <= MOST_OPAQUE + of_mesh
