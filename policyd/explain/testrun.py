"""Running PolicyTests: a question for each case, and whether the decision is what it expects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from policyd.compile.table import CompiledTable
from policyd.errors import EngineError, ResourceError
from policyd.explain.answer import Audit, Decision, decide
from policyd.explain.manifests import Manifests, Place
from policyd.explain.policytest import Caller, Case, Expected, Pod, TestFile
from policyd.explain.question import (
    DEFAULT_IP,
    Facts,
    Question,
    account_identity,
    grpc_request,
    http_request,
    port_number,
    raw_request,
)
from policyd.explain.question import Caller as Peer
from policyd.model.names import parse_workload


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that was run. `wrong` has a sentence for each field that differs; `decision` may be None."""

    file: TestFile
    index: int
    decision: Decision | None
    wrong: tuple[str, ...]

    @property
    def case(self) -> Case:
        return self.file.test.cases[self.index]

    @property
    def passed(self) -> bool:
        return not self.wrong

    @property
    def place(self) -> str:
        """`file:line` of the case."""
        return f"{self.file.path}:{self.file.line_of(self.index)}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A case as a question about a workload."""

    place: Place
    question: Question


def run(file: TestFile, now: datetime | None = None) -> Iterator[Outcome]:
    """Run every case of a file; `now` is the time of cases that say none. Raises SourceError."""
    manifests = Manifests.read(file.manifests())
    for index, case in enumerate(file.test.cases):
        try:
            asked = ask(manifests, file, case, now or datetime.now(UTC))
            decision = decide(manifests, asked.place, asked.question)
        except (ResourceError, EngineError) as error:
            yield Outcome(file, index, None, (str(error),))
            continue
        known = names_in(manifests.table_of(asked.place))
        yield Outcome(file, index, decision, tuple(differences(case.expect, decision, known)))


def ask(manifests: Manifests, file: TestFile, case: Case, now: datetime) -> Asked:
    """Return the question of a case. Raises ResourceError where it names what isn't there."""
    name, colon, port = case.to.rpartition(":")
    if not colon:
        raise ResourceError(f"to: {case.to!r}: expected kind/namespace/name:port")
    workload = parse_workload(name)
    place = manifests.place(workload)
    if place is None:
        raise ResourceError(f"to: no {workload.text} in the manifests")
    question = Question(
        port=port_number(port, place.shape),
        at=case.at or file.test.at or now,
        caller=_caller(case.from_, manifests.compiler.trust_domain),
        request=_request(case, workload.name),
        facts=_facts(case.pod or file.test.pod),
        table_age_millis=case.table_age_millis,
    )
    return Asked(place, question)


def _caller(given: Caller, trust_domain: str) -> Peer:
    identity = given.spiffe_id
    if given.service_account is not None:
        identity = account_identity(given.service_account, trust_domain)
    return Peer(
        given.ip or DEFAULT_IP,
        identity,
        given.pod_uid,
        given.certificate_sha256,
        None if given.not_before is None else round(given.not_before.timestamp() * 1000),
        None if given.not_after is None else round(given.not_after.timestamp() * 1000),
    )


def _facts(pod: Pod) -> Facts:
    return Facts(pod.uid, pod.addresses, pod.probe_addresses)


def _request(case: Case, host: str) -> dict[str, Any]:
    if case.tcp is not None:
        return {"tcp": {"silent": case.tcp.silent}}
    if case.tls is not None:
        return {"tls": {} if case.tls.sni is None else {"sni": case.tls.sni}}
    if case.grpc is not None:
        call = case.grpc
        return grpc_request(call.service, call.method, call.host or host, list(call.headers))
    http = case.http
    if http is None:
        raise ResourceError("no request: expected one of http, grpc, tcp, tls")
    if http.raw is not None:
        return raw_request(http.raw)
    authority = host if http.host is None else http.host
    found = http_request(http.method, http.path, authority, list(http.headers), http.version)
    if http.scheme is not None:
        found["http"] = {**_mapping(found["http"]), "scheme": http.scheme}
    return found


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Names:
    """What names in a table a tail can mean."""

    authorizations: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()


def names_in(table: CompiledTable | None) -> Names:
    """Return the names that a decision on a table can have."""
    if table is None:
        return Names()
    rules = (*table.workload.rules, *table.cluster.rules)
    ports = (*table.workload.ports, table.workload.other)
    return Names(
        frozenset(rule.authorization for rule in rules),
        frozenset(port.server for port in ports if port.server),
        frozenset(route.name for route in table.workload.routes),
    )


def differences(expected: Expected, decision: Decision, known: Names) -> Iterator[str]:
    """Yield a sentence for each expected field that differs."""
    names = {"authorization": known.authorizations, "server": known.servers, "route": known.routes}
    for field in Expected.model_fields:
        if field not in expected.model_fields_set:
            continue
        wanted, got = getattr(expected, field), getattr(decision, field)
        if field == "audit":
            yield from _audit_differences(expected, decision.audit, known)
        elif field in names:
            yield from _name_difference(field, wanted, got, names[field])
        elif wanted != got:
            yield f"{field}: expected {_shown(wanted)}, got {_shown(got)}"


def _audit_differences(expected: Expected, got: Audit | None, known: Names) -> Iterator[str]:
    wanted = expected.audit
    if wanted is None or got is None:
        if (wanted is None) != (got is None):
            yield f"audit: expected {'one' if wanted else 'none'}, got {got.verdict if got else 'none'}"
        return
    for field in ("verdict", "reason"):
        one, other = getattr(wanted, field), getattr(got, field)
        if field in wanted.model_fields_set and one != other:
            yield f"audit.{field}: expected {_shown(one)}, got {_shown(other)}"
    if wanted.authorizations is None:
        return
    if len(wanted.authorizations) != len(got.authorizations):
        named = _listed(got.authorizations)
        yield f"audit.authorizations: expected {_listed(wanted.authorizations)}, got {named}"
        return
    for index, (one, other) in enumerate(zip(wanted.authorizations, got.authorizations, strict=True)):
        yield from _name_difference(f"audit.authorizations[{index}]", one, other, known.authorizations)


def _name_difference(field: str, wanted: str | None, got: str | None, known: frozenset[str]) -> Iterator[str]:
    """Yield what differs; a name may be any tail of the full one that no other name of the table has."""
    if wanted is None or got is None:
        if wanted != got:
            yield f"{field}: expected {_shown(wanted)}, got {_shown(got)}"
        return
    if not is_tail(wanted, got):
        yield f"{field}: expected {wanted}, got {got}"
        return
    others = sorted(name for name in known if is_tail(wanted, name) and name != got)
    if others and wanted != got:
        yield f"{field}: {wanted} could be {got} or {others[0]}: expected more of the name"


def is_tail(tail: str, name: str) -> bool:
    """Whether a name is meant by its last parts."""
    return name == tail or name.endswith((f"/{tail}", f"#{tail}"))


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or "none"
