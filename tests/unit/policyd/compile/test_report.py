"""What `check` tells of a world."""

from datetime import UTC, datetime

import pytest

from policyd.compile.report import report
from tests.unit.policyd.compile.worlds import DEPLOYMENT, ROUTE, SERVER, compiled, mesh, policy, server

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACCOUNT = "[{kind: ServiceAccount, name: reader}]"
FOREIGN = "[{group: policyd.dev, kind: MeshTLSAuthentication, name: friends, namespace: shop}]"
FRIENDS = """
apiVersion: policyd.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: friends, namespace: shop}
spec: {identities: ['*']}
"""
LINKERD = "policy.linkerd.io/v1beta3"
SPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: books, annotations: {}}}\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: solo, namespace: books, annotations: {policyd.dev/opaque-ports: "80, sql"}}
spec: {containers: [{name: a}]}
"""
PROBED = """
apiVersion: batch/v1
kind: CronJob
metadata: {{name: tidy, namespace: books}}
spec: {{jobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: a, livenessProbe: {}}}]}}}}}}}}}}
"""
WORLDS = [
    ("ProbeNotExempt", [PROBED.format("{httpGet: {scheme: HTTPS, port: 80}}")]),
    ("ProbeNotExempt", [PROBED.format("{httpGet: {port: web}}")]),
    ("ProbeNotExempt", [PROBED.format("{tcpSocket: {port: 80, host: example.org}}")]),
    ("UnknownAnnotationValue", [SPACE.format("{policyd.dev/default-access: maybe}")]),
    ("UnknownAnnotationValue", [SPACE.format("{config.linkerd.io/opaque-ports: '80, 9-2, sql'}")]),
    ("UnknownAnnotationValue", [POD]),
    (
        "PassesOver",
        [
            server("http", ", proxyProtocol: TLS"),
            policy("p", ", when: [{path: {in: [/]}}]", target="Namespace/books"),
        ],
    ),
    ("TargetNotFound", [SERVER, policy("p", "", target="Server/htpp")]),
    ("TargetNotFound", [SERVER, policy("p", "", FOREIGN)]),
    ("TargetNotFound", [ROUTE]),
    ("RefNotPermitted", [SERVER, ROUTE.replace("name: http}]", "name: http, namespace: shop}]")]),
    ("NoEffect", [server("http", ", proxyProtocol: TLS"), ROUTE]),
    ("NoEffect", [server("http", ", proxyProtocol: TLS"), ROUTE, policy("p", "", target="HTTPRoute/read")]),
    ("SelectsNothing", [SERVER.replace("app: web", "app: wbe")]),
    ("PortNotDeclared", [SERVER.replace("port: http", "port: grpc")]),
    ("PortNotDeclared", [SERVER.replace("port: http", "port: 80")]),
    ("PortConflict", [SERVER, server("second")]),
    ("DenyMeetsAnonymous", [SERVER, policy("a", ""), policy("p", ", action: Deny", ACCOUNT)]),
    ("RequireWithoutEffect", [SERVER, policy("p", ", action: Require")]),
    ("GrantExpired", [SERVER, policy("p", ", validUntil: '2026-11-21T11:59:59Z'")]),
    ("TrustsOtherNamespace", [SERVER, FRIENDS, policy("p", "", FOREIGN)]),
    ("WiderThanDefault", [SERVER, policy("p", ""), mesh("{maxDefault: all-authenticated}")]),
    (
        "WiderThanDefault",
        [
            server("http", ", accessPolicy: all-unauthenticated"),
            mesh("{maxDefault: audit, defaultAccess: cluster-authenticated}"),
        ],
    ),
    ("AuthenticationUnreadable", [SERVER, FRIENDS.replace("['*']", "[]"), policy("p", "", FOREIGN)]),
    ("unknown-field", [SERVER, policy("p", ", because: none")]),
    (
        "ManyConditions",
        [SERVER, *(policy(f"p{one:02}", ", when: [{method: {in: [GET]}}]") for one in range(32))],
    ),
]


@pytest.mark.parametrize(
    ("code", "texts"), WORLDS, ids=[f"{code}-{place}" for place, (code, _) in enumerate(WORLDS)]
)
def test_each_is_found_with_its_line_and_what_to_do(code: str, texts: list[str]) -> None:
    found = [each for each in report(compiled(DEPLOYMENT, *texts), NOW) if each.code == code]
    assert found
    assert len(found) == len(set(found))
    for each in found:
        assert each.key is not None
        assert each.origin.file == "world.yaml"
        assert each.origin.line > 0
        assert each.message
        assert each.advice or code == "unknown-field"


def test_a_world_without_fault_has_no_finding() -> None:
    texts = [DEPLOYMENT, SERVER, ROUTE, policy("p", "", ACCOUNT), policy("q", "", ACCOUNT, "HTTPRoute/read")]
    assert report(compiled(*texts), NOW) == ()


@pytest.mark.parametrize("probe", ["{exec: {command: [x]}}", "{grpc: {port: 80}}", "{httpGet: {port: 80}}"])
def test_t6_a_probe_that_is_exempt_has_no_finding(probe: str) -> None:
    assert report(compiled(PROBED.format(probe)), NOW) == ()


def test_the_group_that_was_meant_is_told() -> None:
    linkerd = SERVER.replace("policyd.dev/v1alpha1", LINKERD)
    (found,) = report(compiled(DEPLOYMENT, linkerd, policy("p", "")), NOW)
    assert found.advice == "did you mean group policy.linkerd.io?"
