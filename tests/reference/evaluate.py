"""The decision, in the order of D1, and the near misses of D6."""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.defaults import MeshDefaults
from tests.reference.gate import HttpRequest, Judgement, is_grpc
from tests.reference.ports import Port, port_of
from tests.reference.reading import in_blocks
from tests.reference.routes import Route, select
from tests.reference.rows import Peer, Row, Seen
from tests.reference.world import World

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HTTP_STATUS = {
    "no_route": 404,
    "invalid_request": 400,
    "rate_limited": 429,
    "no_policy_loaded": 503,
    "policy_stale": 503,
}
GRPC_STATUS = {
    "no_route": 5,
    "invalid_request": 3,
    "rate_limited": 8,
    "no_policy_loaded": 14,
    "policy_stale": 14,
    "no_identity": 16,
}


@dataclass
class Arrival:
    """`kind` is http, bytes, silence or tls; of http, what the gate says under the port's profile."""

    kind: str
    judged: Judgement | None = None


@dataclass
class Question:
    workload: str
    port: int
    peer: Peer
    now: int
    probe_addresses: list[Any] = field(default_factory=list)
    table_age: int = 0


@dataclass
class Outcome:
    """What one pass comes to; `deciding`: the rows that matched at the step that decided."""

    verdict: str
    reason: str
    step: int
    deciding: list[Row] = field(default_factory=list)
    selected: Route | None = None
    closed: bool = False
    seen: Seen | None = None


def decide(world: World, question: Question, arrival: Arrival) -> dict[str, Any]:
    """The decision's fields, and `nearMisses` as [(authorization, failed dimensions)]."""
    workload = world.workload(question.workload)
    http = arrival.judged is not None
    grpc = bool(arrival.judged and arrival.judged.grpc)
    if not workload.readable:
        return _answer(Outcome("deny", "no_policy_loaded", 1), None, http, grpc)
    port = port_of(world, workload, question.port)
    if 0 < world.defaults.max_table_age < question.table_age:
        return _answer(
            Outcome("deny", "policy_stale", 1), port, http and port.reads_http, grpc and port.reads_http
        )
    outcome = _pass(world.defaults, port, question, arrival, enforce_all=False)
    would = _pass(world.defaults, port, question, arrival, enforce_all=True)
    http = http and (port.reads_http or outcome.step == 3)
    answer = _answer(outcome, port, http, grpc and http)
    if would.verdict != outcome.verdict:
        listed = [row.name for row in would.deciding if row.audit]
        answer["audit"] = {"verdict": would.verdict, "reason": would.reason, "authorizations": listed}
    return answer


def _answer(outcome: Outcome, port: Port | None, http: bool, grpc: bool) -> dict[str, Any]:
    allowed = outcome.verdict == "allow"
    category = outcome.reason.split(":")[0]
    status = (200 if allowed else HTTP_STATUS.get(category, 403)) if http else None
    grpc_status = (0 if allowed else GRPC_STATUS.get(category, 7)) if grpc else None
    if outcome.closed:
        status = grpc_status = None
    return {
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "status": 200 if grpc_status is not None else status,
        "grpcStatus": grpc_status,
        "server": port.server.full_name if port and port.server else None,
        "route": outcome.selected.name if outcome.selected and outcome.step >= 5 else None,
        "authorization": outcome.deciding[0].name if outcome.deciding else None,
        "audit": None,
        "nearMisses": _near_misses(outcome, port),
    }


def _near_misses(outcome: Outcome, port: Port | None) -> list[tuple[str, tuple[str, ...]]]:
    """Enforced Allows that fail somewhere, the three nearest; none where no rule was looked at [D6]."""
    if outcome.verdict == "allow" or outcome.step < 5 or port is None or outcome.seen is None:
        return []
    seen = outcome.seen
    allows = [row for row in port.rows if row.effect == "Allow" and not row.audit]
    missed = [(row, tuple(row.failed(seen))) for row in allows]
    nearest = sorted((len(failed), row.order(), row.name, failed) for row, failed in missed if failed)
    return [(name, failed) for _, _, name, failed in nearest[:3]]


def _pass(
    defaults: MeshDefaults, port: Port, question: Question, arrival: Arrival, *, enforce_all: bool
) -> Outcome:
    """One pass; with `enforce_all`, as if every Audit policy were enforced and `audit` were `deny` [A6]."""
    access = "deny" if enforce_all and port.access == "audit" else port.access
    rows = [row for row in port.rows if enforce_all or not row.audit]
    reading = [row for row in rows if row.effect != "Allow" and row.http_only]
    lenient = access == "audit" and not reading and port.reads_http
    judged = arrival.judged
    request = judged.request if judged else None
    if judged and port.reads_http:
        refusal = judged.refusal(lenient=lenient)
        if refusal:
            return Outcome("deny", f"invalid_request:{refusal}", 2)
    if _is_probe(defaults, port, question, arrival, request):
        return Outcome("allow", "allowed", 3)
    if _rejected(defaults, question.peer, question.now):
        return Outcome("deny", "peer_rejected", 4)
    if not port.reads_http:
        request = None
    else:
        refused = _protocol_refused(port, arrival, reading)
        if refused and not lenient:
            return Outcome("deny", "protocol_refused", 4, closed=refused == "closed")
        request = None if refused else request
    selected = select(port.routes, request) if request else None
    seen = Seen(question.peer, question.now, request, selected)
    outcome = _rules(port, rows, seen, access)
    outcome.selected, outcome.seen = selected, seen
    return outcome


def _rules(port: Port, rows: list[Row], seen: Seen, access: str) -> Outcome:
    """Steps 5 to 12."""
    upper = [row for row in rows if row.scope == "port"]
    lower = [row for row in rows if row.scope != "port"]
    refusing = [row for row in rows if row.effect == "Refuse" and row.in_scope(seen)]
    if refusing:
        return Outcome("deny", "policy_unreadable", 5, refusing)
    found = _against(upper, seen, 6)
    if found:
        return found
    if port.routes and seen.request and not seen.selected and access != "audit":
        return Outcome("deny", "no_route", 8)
    found = _against(lower, seen, 9)
    if found:
        return found
    granting = [row for row in rows if row.effect == "Allow" and row.grants(seen)]
    if granting:
        return Outcome("allow", "allowed", 11, granting)
    return _default(rows, seen, access, port)


def _against(rows: list[Row], seen: Seen, step: int) -> Outcome | None:
    """Any matching Deny refuses; else any unmet Require."""
    denying = [row for row in rows if row.effect == "Deny" and row.denies(seen)]
    if denying:
        reason = "no_identity" if denying[0].denies_anonymity(seen) else "explicit_deny"
        return Outcome("deny", reason, step, denying)
    unmet = [row for row in rows if row.effect == "Require" and row.unmet(seen)]
    return Outcome("deny", "requirement_not_met", step + 1, unmet) if unmet else None


def _default(rows: list[Row], seen: Seen, access: str, port: Port) -> Outcome:
    """The port's default speaks [D1 step 12]; why a peer without identity isn't let in is said [D3]."""
    if access in ("audit", "all-unauthenticated"):
        return Outcome("allow", "allowed", 12)
    near = access != "deny" and (
        not access.startswith("cluster-") or in_blocks(seen.peer.address, port.cluster_networks)
    )
    if near and (access == "cluster-unauthenticated" or own_identity(seen.peer)):
        return Outcome("allow", "allowed", 12)
    missing = seen.peer.identity is None and (near or any(_lacks_identity(row, seen) for row in rows))
    return Outcome("deny", "no_identity" if missing else "no_matching_rule", 12)


def _lacks_identity(row: Row, seen: Seen) -> bool:
    named = row.identities is not None and bool(row.identities.any_of)
    return row.effect == "Allow" and named and row.failed(seen) == ["identity"]


def own_identity(peer: Peer) -> bool:
    """Every verified identity of our own trust domain [I2]."""
    return peer.identity is not None and peer.identity.startswith("spiffe://cluster.local/")


def _is_probe(
    defaults: MeshDefaults, port: Port, question: Question, arrival: Arrival, request: HttpRequest | None
) -> bool:
    """A declared probe, in plaintext, from where the kubelet is [T6]."""
    peer = question.peer
    from_node = peer.address in question.probe_addresses or in_blocks(peer.address, defaults.probe_networks)
    if not from_node or peer.identity is not None:
        return False
    kinds = {probe.kind for probe in port.probes}
    if arrival.kind == "silence":
        return "tcp" in kinds
    if request is None:
        return False
    bodiless = not any(
        name == "transfer-encoding" or (name == "content-length" and value != "0")
        for name, value in request.headers
    )
    targets = [probe.target for probe in port.probes if probe.kind == "http"]
    kubelet = request.method == "GET" and request.version != "2"
    if kubelet and bodiless and request.target in targets:
        return True
    return (
        "grpc" in kinds
        and request.method == "POST"
        and is_grpc(request.headers)
        and request.path == HEALTH_CHECK
    )


def _rejected(defaults: MeshDefaults, peer: Peer, now: int) -> bool:
    """Expired, or named by `revoked` [I9]."""
    if peer.identity is None:
        return False
    if peer.not_after is not None and now >= peer.not_after:
        return True
    for item in defaults.revoked:
        names = [
            (item.identity, peer.identity),
            (item.pod_uid, peer.pod_uid),
            (item.certificate, peer.certificate),
        ]
        hit = any(wanted is not None and wanted == given for wanted, given in names)
        early = item.issued_before is None or peer.not_before is None or peer.not_before < item.issued_before
        if hit and early:
            return True
    return False


def _protocol_refused(port: Port, arrival: Arrival, reading: list[Row]) -> str | None:
    """`closed` or `answered` where what arrived isn't what the port speaks [T3, D5]."""
    judged = arrival.judged
    if judged is None:
        needs_http = port.protocol != "unknown" or bool(reading) or bool(port.routes)
        return "closed" if needs_http else None
    taken = {"HTTP/1": ("1.0", "1.1"), "HTTP/2": ("2",), "gRPC": ("2",)}.get(port.protocol)
    if taken and judged.version not in taken:
        return "closed"
    request = judged.request
    if port.protocol == "gRPC" and request and not (request.method == "POST" and is_grpc(request.headers)):
        return "answered"
    return None
