"""The product and the reference evaluator, asked the same."""

import base64
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from policyd.compile.world import compile_all
from policyd.engine import Table
from policyd.index.world import World as ProductWorld
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse
from tests.reference.generate import world as generate_world
from tests.reference.generate_requests import NOW, NOW_MILLIS, POD, question
from tests.reference.identity import of_account
from tests.reference.policytest import ask
from tests.reference.ports import port_of
from tests.reference.rows import Row
from tests.reference.world import World as ReferenceWorld
from tests.reference.world import read_world

COMPARED = ("verdict", "reason", "status", "grpcStatus", "server", "route", "authorization", "audit")
NO_TABLE = {
    "verdict": "deny",
    "reason": "no_policy_loaded",
    "server": None,
    "route": None,
    "authorization": None,
    "audit": None,
}

SUBJECTS = ("", "header", "query", "method", "host", "path")
TESTS = ("", "in", "notIn", "prefix", "exists", "absent")

Document = dict[str, Any]


class Product:
    """Tables of a world, compiled by the product from the text of its manifests."""

    def __init__(self, documents: list[Document]) -> None:
        text = "\n---\n".join(json.dumps(document) for document in documents)
        parsed = parse(text.encode(), "world.yaml")
        if parsed.problems:
            raise ValueError(parsed.problems)
        world = ProductWorld()
        found = [one for one in map(read, parsed.documents) if one is not None]
        world.apply((one.key, one) for one in found)
        self._conditions: dict[str, dict[str, dict[str, str]]] = {}
        self._tables = {name.text: Table(table.snapshot) for name, table in compile_all(world).items()}

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The decision, with the near misses as the reference has them."""
        reference, _, port = body["to"].rpartition(":")
        table = self._tables.get(reference)
        if table is None:
            return _without_table(body)
        answer = json.loads(table.explain(json.dumps(encode(body, int(port))).encode()))
        decision = {key: answer[key] for key in COMPARED}
        misses = answer["nearMisses"] or []
        decision["nearMisses"] = [(one["authorization"], self._failed(table, one)) for one in misses]
        return decision

    def _failed(self, table: Table, miss: dict[str, Any]) -> list[str]:
        """Failed dimensions; conditions as what they ask, because a row sorts those of its policy."""
        conditions = self._conditions.setdefault(table.version, _conditions_of(table))[miss["authorization"]]
        return sorted(conditions.get(dimension, dimension) for dimension in miss["failed"])


def _without_table(body: dict[str, Any]) -> dict[str, Any]:
    """Who has no table denies everything, as the proxy does."""
    http, grpc = "http" in body or "grpc" in body, "grpc" in body
    listed = body.get("http", {}).get("headers", [])
    grpc = grpc or any(
        name == "content-type" and value.startswith("application/grpc") for name, value in listed
    )
    status = (200 if grpc else 503) if http else None
    return {**NO_TABLE, "status": status, "grpcStatus": 14 if grpc else None, "nearMisses": []}


def encode(body: dict[str, Any], port: int) -> dict[str, Any]:
    """A case as the binding's question."""
    given = dict(body["from"])
    if "serviceAccount" in given:
        given["identity"] = of_account(*given.pop("serviceAccount").split("/"))
    elif "spiffeID" in given:
        given["identity"] = given.pop("spiffeID")
    workload = body["to"].split(":")[0].split("/")[-1]
    return {
        "port": port,
        "at": NOW_MILLIS,
        "tableAgeMillis": body.get("tableAgeMillis", 0),
        "facts": POD,
        "from": given,
        "request": _request(body, workload),
    }


def _request(body: dict[str, Any], workload: str) -> dict[str, Any]:
    if "tcp" in body:
        return {"tcp": {"silent": bool(body["tcp"].get("silent"))}}
    if "tls" in body:
        return {"tls": body["tls"]}
    if "raw" in body.get("http", {}):
        return {"raw": base64.b64encode(body["http"]["raw"].encode("latin-1")).decode()}
    if "grpc" in body:
        return {"grpc": {"host": workload, "headers": [], **body["grpc"]}}
    return {"http": {"scheme": "http", "host": workload, "headers": [], **body["http"]}}


def _told(subject: str, name: str, test: str, values: list[str]) -> str:
    return f"condition {subject} {name} {test} {sorted(values)}"


def _conditions_of(table: Table) -> dict[str, dict[str, str]]:
    """By authorization, what `condition:<index>` means there."""
    rows = json.loads(table.rows())
    found: dict[str, dict[str, str]] = {}
    for part in (rows["cluster"], rows["workload"]):
        pool = [_pooled(one) for one in part["pools"]["conditions"]]
        for rule in part["rules"]:
            listed = rule["conditions"]
            found[rule["authorization"]] = {
                f"condition:{place}": pool[one] for place, one in enumerate(listed)
            }
    return found


def _pooled(one: dict[str, Any]) -> str:
    values = (
        [value.removesuffix("/") or "/" for value in one["values"]] if one["test"] == 3 else one["values"]
    )
    return _told(SUBJECTS[one["subject"]], one["name"], TESTS[one["test"]], values)


def expect(world: ReferenceWorld, body: dict[str, Any]) -> dict[str, Any]:
    """What the reference says, near misses told as the product's are."""
    decision = ask(world, body, NOW_MILLIS, POD)
    reference, _, port = body["to"].rpartition(":")
    if decision["nearMisses"]:
        rows = {row.name: row for row in port_of(world, world.workload(reference), int(port)).rows}
        decision["nearMisses"] = [
            (name, _reference_failed(rows[name], dims)) for name, dims in decision["nearMisses"]
        ]
    return decision


def _reference_failed(row: Row, failed: tuple[str, ...]) -> list[str]:
    told = []
    for dimension in failed:
        word, _, place = dimension.partition(":")
        if not place:
            told.append(word)
            continue
        item = row.conditions[int(place)]
        values = (
            [value.removesuffix("/") or "/" for value in item.values]
            if item.test == "prefix"
            else item.values
        )
        told.append(_told(item.subject, item.name, item.test, values))
    return sorted(told)


@dataclass
class Disagreement:
    """One pair on which the two differ, with the documents that are needed for it."""

    seed: int
    documents: list[Document]
    body: dict[str, Any]
    reference: dict[str, Any] = field(default_factory=dict)
    product: dict[str, Any] = field(default_factory=dict)

    @property
    def differing(self) -> list[str]:
        return [key for key in (*COMPARED, "nearMisses") if self.reference.get(key) != self.product.get(key)]


def compare(documents: list[Document], body: dict[str, Any], seed: int) -> Disagreement | None:
    """Ask both from nothing; None where they agree or where the world can't be asked at all."""
    reference = read_world(documents)
    if body["to"].split(":")[0] not in reference.workloads:
        return None
    expected = expect(reference, body)
    found = Disagreement(seed, documents, body, expected, Product(documents).ask(body))
    return found if found.differing else None


def shrink(found: Disagreement) -> Disagreement:
    """Drop documents, as long as the same fields differ."""
    changed = True
    while changed:
        changed = False
        for place in range(len(found.documents)):
            fewer = found.documents[:place] + found.documents[place + 1 :]
            smaller = compare(fewer, found.body, found.seed)
            if smaller and smaller.differing == found.differing:
                found, changed = smaller, True
                break
    return found


def run_world(seed: int, requests: int) -> tuple[int, list[Disagreement]]:
    """Compare on one world; return how many pairs ran and the first disagreement, shrunk."""
    rng = random.Random(seed)
    documents = generate_world(rng)
    reference, product = read_world(documents), Product(documents)
    workloads = list(reference.workloads)
    for count in range(1, requests + 1):
        body = question(rng, workloads)
        expected, got = expect(reference, body), product.ask(body)
        if expected != got:
            return count, [shrink(Disagreement(seed, documents, body, expected, got))]
    return requests, []


def write_reproducer(found: Disagreement, folder: Path) -> Path:
    """A PolicyTest with its manifests in one file; what the reference says is what is expected."""
    expected = {key: found.reference[key] for key in COMPARED}
    case = {"name": f"seed {found.seed}", **found.body, "expect": expected}
    test = {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "PolicyTest",
        "metadata": {"name": f"seed-{found.seed}"},
        "manifests": [f"seed-{found.seed}.yaml"],
        "at": NOW,
        "pod": {key: value for key, value in POD.items() if key != "uid"},
        "cases": [case],
    }
    difference = "".join(
        f"# {key}: reference {found.reference.get(key)!r}, product {found.product.get(key)!r}\n"
        for key in found.differing
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{found.seed}.yaml"
    path.write_text(difference + yaml.safe_dump_all([*found.documents, test], sort_keys=False))
    return path
