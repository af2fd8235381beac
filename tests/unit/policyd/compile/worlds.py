"""Small worlds written as manifests, compiled, and asked."""

import json
from typing import Any

from policyd.compile.compiler import Compiler
from policyd.compile.rows import Port, Rule
from policyd.engine import Table
from policyd.index.world import Object, World
from policyd.model.names import WorkloadName
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse

AT = 1795262400000
WEB = WorkloadName("deployment", "books", "web")

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: books}
spec:
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers:
      - {name: web, ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 9090}]}
"""
SERVER = """
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: http, namespace: books}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: read, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: http}]
  rules: [{matches: [{path: {value: /read}}]}]
"""


def server(name: str, more: str = "", group: str = "policyd.dev/v1alpha1", meta: str = "") -> str:
    """A Server on port `http` of everything; `more` are further fields of its spec."""
    return (
        f"apiVersion: {group}\nkind: Server\nmetadata: {{name: {name}, namespace: books{meta}}}\n"
        f"spec: {{podSelector: {{}}, port: http{more}}}\n"
    )


def policy(name: str, more: str, refs: str = "[]", target: str = "Server/http", meta: str = "") -> str:
    """An AuthorizationPolicy of our group; `more` are further fields of its spec."""
    kind, _, on = target.partition("/")
    group = {"Server": "policyd.dev", "HTTPRoute": "gateway.networking.k8s.io", "Namespace": ""}[kind]
    return (
        f"apiVersion: policyd.dev/v1alpha1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: books{meta}}}\n"
        f"spec: {{targetRef: {{group: '{group}', kind: {kind}, name: {on}}}, "
        f"requiredAuthenticationRefs: {refs}{more}}}\n"
    )


def mesh(spec: str) -> str:
    return (
        f"apiVersion: policyd.dev/v1alpha1\nkind: MeshDefaults\nmetadata: {{name: default}}\nspec: {spec}\n"
    )


def objects(*texts: str) -> list[Object]:
    """All objects of some manifests."""
    parsed = parse("\n---\n".join(texts).encode(), "world.yaml")
    assert not parsed.problems, [problem.text for problem in parsed.problems]
    found = (read(document) for document in parsed.documents)
    return [each for each in found if each is not None]


def compiled(*texts: str) -> Compiler:
    world = World()
    world.apply((found.key, found) for found in objects(*texts))
    made = Compiler(world)
    assert not made.failures, [failure.text for failure in made.failures.values()]
    return made


def port(compiler: Compiler, number: int, workload: WorkloadName = WEB) -> Port:
    """The row of a port, or that of all ports that aren't listed."""
    table = compiler.table(workload)
    assert table is not None
    return next((each for each in table.workload.ports if each.number == number), table.workload.other)


def rules(compiler: Compiler, number: int, workload: WorkloadName = WEB) -> list[Rule]:
    """The rules of a port in the order of attribution."""
    table = compiler.table(workload)
    assert table is not None
    return [table.workload.rules[index] for index in port(compiler, number, workload).rules]


def ask(compiler: Compiler, number: int = 8080, path: str = "/", **peer: Any) -> dict[str, Any]:
    """The decision on a GET of the workload `web`; `peer` are fields of the question's `from`."""
    table = compiler.table(WEB)
    assert table is not None
    question = {
        "port": number,
        "at": AT,
        "tableAgeMillis": 0,
        "facts": {"uid": "", "addresses": [], "probeAddresses": []},
        "from": {"ip": "10.0.0.7", "identity": None, **peer},
        "request": {
            "http": {
                "version": "1.1",
                "method": "GET",
                "scheme": "http",
                "host": "web",
                "path": path,
                "headers": [],
            }
        },
    }
    answer: dict[str, Any] = json.loads(Table(table.snapshot).decide(json.dumps(question).encode()))
    return answer


def codes(compiler: Compiler) -> set[str]:
    """Codes of what the tables themselves tell of."""
    return {finding.code for table in compiler.tables.values() for finding in table.findings}
