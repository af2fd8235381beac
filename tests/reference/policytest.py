"""PolicyTest files: what a case asks, and whether a decision is what it expects."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.reference.evaluate import Arrival, Question, decide
from tests.reference.gate import Profile, http1, http2, is_http_head
from tests.reference.identity import of_account
from tests.reference.ports import port_of
from tests.reference.reading import address, instant
from tests.reference.rows import Peer
from tests.reference.world import World, read_world

DEFAULT_ADDRESS = "10.0.0.7"


@dataclass
class Case:
    """One case of a file with what it inherits from it; `documents` are the file's manifests."""

    file: Path
    test: str
    body: dict[str, Any]
    at: Any
    pod: dict[str, Any]
    documents: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return f"{self.test}: {self.body['name']}"


@cache
def read_documents(path: Path) -> list[dict[str, Any]]:
    """The documents of one file, `List` kinds unfolded; shared by all callers, so not to be changed."""
    found: list[dict[str, Any]] = []
    for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
        if isinstance(document, dict):
            found += document["items"] if str(document.get("kind", "")).endswith("List") else [document]
    return found


def read_cases(path: Path) -> Iterator[Case]:
    """Every case of every PolicyTest in the file."""
    for test in read_documents(path):
        if test.get("kind") != "PolicyTest":
            continue
        files = sorted(
            {file for pattern in test.get("manifests", ["*.yaml"]) for file in path.parent.glob(pattern)}
        )
        documents = [one for file in files for one in read_documents(file) if one.get("kind") != "PolicyTest"]
        for body in test["cases"]:
            at, pod = body.get("at", test.get("at")), {**test.get("pod", {}), **body.get("pod", {})}
            yield Case(path, test["metadata"]["name"], body, at, pod, documents)


def peer_of(given: dict[str, Any]) -> Peer:
    """`from`: neither a serviceAccount nor a spiffeID is no identity."""
    identity = given.get("spiffeID")
    if "serviceAccount" in given:
        identity = of_account(*given["serviceAccount"].split("/"))
    return Peer(
        address(given.get("ip", DEFAULT_ADDRESS)),
        identity,
        given.get("podUID"),
        given.get("certificateSHA256"),
        given.get("notBefore"),
        given.get("notAfter"),
    )


def _pairs(headers: Any) -> list[tuple[str, str]]:
    listed = headers.items() if isinstance(headers, dict) else headers or []
    return [(str(name), str(value)) for name, value in listed]


def http1_head(given: dict[str, Any], host: str) -> bytes:
    """The head that the fields of an `http` request stand for."""
    line = f"{given.get('method', 'GET')} {given.get('path', '/')} HTTP/{given.get('version', '1.1')}\r\n"
    lines = [("host", str(given.get("host", host))), *_pairs(given.get("headers"))]
    return (line + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n").encode("latin-1")


def arrive(request: dict[str, Any], profile: Profile, host: str) -> Arrival:
    """What arrives, as the gate with this profile sees it; `host`: the default authority."""
    if "tcp" in request:
        return Arrival("silence" if (request["tcp"] or {}).get("silent") else "bytes")
    if "tls" in request:
        return Arrival("tls")
    if "grpc" in request:
        given = request["grpc"]
        parts = {"method": "POST", "authority": str(given.get("host", host))}
        parts["path"] = f"/{given['service']}/{given['method']}"
        own = [("content-type", "application/grpc"), ("te", "trailers")]
        return Arrival("http", http2(parts, own + _pairs(given.get("headers")), profile))
    given = request.get("http") or {}
    if str(given.get("version", "1.1")) == "2":
        parts = {"method": given.get("method", "GET"), "authority": str(given.get("host", host))}
        parts["path"] = given.get("path", "/")
        return Arrival("http", http2(parts, _pairs(given.get("headers")), profile))
    if "raw" in given:
        raw = given["raw"]
        head = raw if isinstance(raw, bytes) else raw.encode("latin-1")
    else:
        head = http1_head(given, host)
    return Arrival("http", http1(head, profile)) if is_http_head(head) else Arrival("bytes")


def ask(world: World, body: dict[str, Any], at: int, pod: dict[str, Any]) -> dict[str, Any]:
    """The decision on one case: `to`, `from` and a request; `at` in milliseconds since the epoch."""
    reference, _, named = body["to"].rpartition(":")
    workload = world.workload(reference)
    number = int(named) if named.isdigit() else workload.numbers(named)[0]
    port = port_of(world, workload, number)
    probes = [address(one) for one in pod.get("probeAddresses", [])]
    table_age = body.get("tableAgeMillis", 0) // 1000
    question = Question(reference, number, peer_of(body.get("from") or {}), at, probes, table_age)
    return decide(world, question, arrive(body, port.profile, workload.name))


def run(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """The decision on a case, and of what it expects that which differs."""
    at = instant(case.at) if case.at is not None else round(datetime.now(UTC).timestamp() * 1000)
    decision = ask(read_world(case.documents), case.body, at, case.pod)
    wrong = {
        key: {"expected": wanted, "got": decision[key]}
        for key, wanted in case.body["expect"].items()
        if not fits(wanted, decision[key])
    }
    return decision, wrong


def fits(wanted: Any, got: Any) -> bool:
    """Names may be any tail of the full one; of a mapping only the fields given are compared."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(fits(value, got.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(got, list) and len(wanted) == len(got) and all(map(fits, wanted, got))
    if isinstance(wanted, str) and isinstance(got, str):
        return got == wanted or got.endswith(("/" + wanted, "#" + wanted))
    return bool(wanted == got)
