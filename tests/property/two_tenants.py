"""A namespace B with what it has, and all of it that B can notice (promise P-8)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from grpclib.exceptions import GRPCError

from identity.spiffe_id import SpiffeId
from policyd.compile.compiler import Compiler
from policyd.compile.report import report
from policyd.distribute.callers import pod_of
from policyd.distribute.discovery import Discovery
from policyd.distribute.facts import facts_of
from policyd.engine import Table
from policyd.index.world import Object, World
from policyd.model.finding import Finding
from policyd.resources.base import Document, Resource
from policyd.resources.read import read
from policyd.resources.workload import Pod
from servicekit.leaf import Leaf
from tests.property.differential import encode
from tests.property.neighbours import NEIGHBOUR, VICTIM, VICTIM_EXTERNAL
from tests.reference.generate import world as generate_world
from tests.reference.generate_requests import question

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUESTIONS = 25
CALLED = ("n/w:80", "10.96.0.7:80", "10.0.9.9:8080", "10.0.1.5:8080", "203.0.113.9:5432", "10.9.0.1:9100")
"""What a pod of B asks for: its own Service and pods by name and address, others' machines, a node."""

OF_THE_VICTIM: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "w-1-a", "namespace": VICTIM, "uid": "u-9", "labels": {"app": "w"}},
        "spec": {
            "serviceAccountName": "w",
            "nodeName": "node-1",
            "containers": [
                {"name": "app", "ports": [{"name": "http", "containerPort": 8080}]},
                {"name": "policyd-proxy"},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.1.5", "hostIP": "10.9.0.1"},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "w", "namespace": VICTIM},
        "spec": {
            "clusterIP": "10.96.0.7",
            "selector": {"app": "w"},
            "ports": [{"port": 80, "targetPort": "http"}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "exporter", "namespace": "kube-system", "uid": "u-e"},
        "spec": {"hostNetwork": True, "nodeName": "node-1", "containers": [{"name": "exporter"}]},
        "status": {"phase": "Running", "podIP": "10.9.0.1", "hostIP": "10.9.0.1"},
    },
    {
        "apiVersion": "workload.linkerd.io/v1beta1",
        "kind": "ExternalWorkload",
        "metadata": {"name": "x", "namespace": VICTIM, "labels": {"app": "vm"}},
        "spec": {
            "meshTLS": {"identity": VICTIM_EXTERNAL, "serverName": "x.n.sa.cluster.local"},
            "ports": [{"name": "http", "port": 8080}],
            "workloadIPs": [{"ip": "10.0.9.9"}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-1"},
        "spec": {"podCIDRs": ["10.0.1.0/24"]},
    },
]


def objects(documents: Iterable[dict[str, Any]]) -> list[Object]:
    found = (read(Document(document)) for document in documents)
    return [each for each in found if each is not None]


def the_victims(rng: random.Random) -> list[Object]:
    """B's objects and the cluster's; A is a namespace that is there, and empty."""
    own = [*generate_world(rng), *OF_THE_VICTIM]
    return list({found.key: found for found in objects(own)}.values())


@dataclass(frozen=True)
class Seen:
    """All that B can notice: tables, findings about its objects, what its pods are told, who may connect."""

    tables: dict[str, bytes]
    findings: frozenset[Finding]
    facts: dict[str, bytes]
    discovery: bytes
    admitted: dict[str, str]

    @classmethod
    def of(cls, compiler: Compiler) -> Seen:
        own = [found for found in compiler.world.objects.values() if found.key.namespace == VICTIM]
        pods = [found for found in own if isinstance(found, Resource) and isinstance(found.spec, Pod)]
        tables = {name: table for name, table in compiler.tables.items() if name.namespace == VICTIM}
        told = Discovery(compiler.world, compiler.trust_domain, lambda *_: "unknown")
        return cls(
            {name.text: table.snapshot for name, table in tables.items()},
            frozenset(each for each in report(compiler, NOW) if _is_the_victims(each)),
            {pod.key.text: facts_of(compiler.world, pod) for pod in pods},
            told.of(CALLED, VICTIM, ("10.0.1.5",)),
            {identity: _admitted(compiler, identity, uid) for identity, uid in CALLERS},
        )


CALLERS = (("spiffe://cluster.local/ns/n/sa/w", "u-9"), (VICTIM_EXTERNAL, None))


def _is_the_victims(finding: Finding) -> bool:
    key = finding.key
    return key is not None and (key.namespace == VICTIM or not key.namespace)


def _admitted(compiler: Compiler, identity: str, uid: str | None) -> str:
    leaf = Leaf(SpiffeId.parse(identity), uid, NOW - timedelta(hours=1), NOW + timedelta(hours=1), "ab" * 32)
    try:
        return pod_of(compiler, leaf).key.text
    except GRPCError as error:
        return str(error.message)


def verdicts(tables: dict[str, bytes], seed: int) -> list[bytes]:
    """What B's tables say to random requests; the same questions each time."""
    read_back = {name: Table(snapshot) for name, snapshot in tables.items()}
    rng = random.Random(seed)
    found = []
    for _ in range(QUESTIONS if read_back else 0):
        body = question(rng, sorted(read_back))
        name, _, port = body["to"].rpartition(":")
        found.append(read_back[name].explain(json.dumps(encode(body, int(port))).encode()))
    return found


def made_for_the_victim(compiler: Compiler) -> dict[str, int]:
    """What was compiled for B, by identity: a number changes where it was compiled again."""
    made = compiler._made.items()
    return {shape: id(each.compiled) for shape, each in made if shape.startswith(f"{VICTIM}/")}


def alone(*more: dict[str, Any], defaults: dict[str, Any] | None = None) -> Compiler:
    """The victim with a deployment, a Server and what is given; MeshDefaults and two Namespaces beside it."""
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "w", "namespace": VICTIM},
        "spec": {
            "template": {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "app"}]}}
        },
    }
    server = {"podSelector": {}, "port": 8080}
    written = [
        deployment,
        mine("Server", "s", server),
        {"apiVersion": OURS, "kind": "MeshDefaults", "metadata": {"name": "default"}, "spec": defaults or {}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": VICTIM}},
        *more,
    ]
    compiler = Compiler(World())
    put(compiler, *OF_THE_VICTIM, *written)
    return compiler


OURS = "policyd.dev/v1alpha1"


def mine(kind: str, name: str, spec: dict[str, Any], namespace: str = VICTIM) -> dict[str, Any]:
    return {
        "apiVersion": OURS,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def theirs(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return mine(kind, name, spec, NEIGHBOUR)


def put(compiler: Compiler, *documents: dict[str, Any]) -> set[str]:
    """Apply them as one batch; return the namespaces in which tables changed."""
    changed = compiler.apply((found.key, found) for found in objects(documents))
    return {name.namespace for name in changed}


def grant(name: str, *references: dict[str, Any], **more: Any) -> dict[str, Any]:
    target = {"group": "policyd.dev", "kind": "Server", "name": "s"}
    return mine(
        "AuthorizationPolicy",
        name,
        {"targetRef": target, "requiredAuthenticationRefs": list(references), **more},
    )
