"""`denials/ID/explanation`: why a denial came about, as far as the asker may know."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from policyd.audit import asks
from policyd.audit.store import Reading
from policyd.audit_api import objects
from policyd.audit_api.front_proxy import Caller
from policyd.audit_api.names import GROUP_VERSION
from policyd.audit_api.refusal import Refusal
from policyd.audit_api.reviews import Deed, Reviews
from policyd.audit_api.sight import (
    NAMESPACES,
    Enforced,
    Standing,
    elsewhere,
    former_sources,
    seen,
)
from policyd.compile.table import CompiledTable
from policyd.errors import EngineError, ResourceError
from policyd.explain.denial import NotKept, deciding_table, denial_report
from policyd.explain.manifests import Place
from policyd.explain.past import ObjectChange, Past, TableRecord, read_tables
from policyd.explain.readable import short_name
from policyd.explain.report import NearMiss, Report, replay_beside
from policyd.model.names import ObjectKey, WorkloadName, parse_workload
from policyd.resources.kinds import key_of, plural_of

MOST_TABLES: Final = 50
"""Former tables that are asked: each costs policyd a reading of it."""
AT_ONCE: Final = 2
WAIT_SECONDS: Final = 10.0
"""How long an explanation waits for others."""
MOST_ASKED: Final = 64
"""Objects elsewhere that are asked about; of more nothing is told."""
_UNTOLD = {"identity": "it asks for another caller", "network": "it asks for another address"}

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Any]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the store has beside a denial."""

    store: Reading

    def content(self, version: object) -> bytes | None:
        return self.store.content(version) if isinstance(version, str) else None

    def tables(self, workload: object) -> Sequence[TableRecord]:
        rows = self.store.tables(str(workload), MOST_TABLES)
        return read_tables([asks.record_of(row) for row in rows])


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What was kept of one denial, read before anybody is asked what may be told of it."""

    record: Mapping[str, Any]
    workload: WorkloadName
    table: CompiledTable | None
    former: Mapping[ObjectKey, str] | None


class Explainer:
    """Answers, a few at a time."""

    def __init__(
        self, store: Reading, standing: Standing, reviews: Reviews, in_thread: InThread[Any]
    ) -> None:
        self._store = store
        self._standing = standing
        self._reviews = reviews
        self._in_thread = in_thread
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def explain(self, caller: Caller, namespace: str, name: str) -> dict[str, Any]:
        """Return the explanation as an object of the API. Raises Refusal, StoreUnavailable."""
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_SECONDS)
        except TimeoutError:
            raise Refusal(429, "too many explanations are asked for at the same time", 1) from None
        try:
            evidence = await self._in_thread(partial(_evidence, self._store, namespace, name))
            record = evidence.record
            enforced = self._standing.enforced(
                evidence.workload.text, namespace, str(record.get("pod") or "")
            )
            readable, hidden = await self._readable(caller, namespace, enforced, evidence)
            made = await self._in_thread(
                partial(_report, self._store, evidence, enforced, seen(namespace, enforced, readable))
            )
        finally:
            self._turns.release()
        told, withheld = _told(made, namespace, readable, hidden)
        return {
            "apiVersion": GROUP_VERSION,
            "kind": "Explanation",
            "metadata": {"name": name, "namespace": namespace},
            "trustDomain": enforced.trust_domain,
            "explanation": told.data(),
            "facts": await self._in_thread(partial(_facts, self._store, record)),
            "withheld": withheld,
        }

    async def _readable(
        self, caller: Caller, namespace: str, enforced: Enforced, evidence: _Evidence
    ) -> tuple[frozenset[ObjectKey], bool]:
        """Return which objects elsewhere the asker may read, and whether tables tell of others."""
        keys = elsewhere(namespace, enforced, evidence.former)
        if keys is None or len(keys) > MOST_ASKED:
            keys, unknown = elsewhere(namespace, enforced, {}) or frozenset(), True
            keys = frozenset(sorted(keys)[:MOST_ASKED])
        else:
            unknown = False
        found = {key for key in sorted(keys) if await self._reviews.allowed(caller, _reading(key))}
        # MeshDefaults are in every table: what they say is told only where they decide, and then by name.
        hidden = {key for key in keys - found if key.kind != "MeshDefaults"}
        return frozenset(found), unknown or bool(hidden)


def _reading(key: ObjectKey) -> Deed:
    if key == NAMESPACES:
        return Deed("list", "", "namespaces")
    return Deed("get", key.group, plural_of(key.kind), key.namespace, key.name)


def _evidence(store: Reading, namespace: str, name: str) -> _Evidence:
    record = asks.record_of(objects.one(store, namespace, name))
    text = str(record.get("workload") or f"pod/{namespace}/{record.get('pod')}")
    kept = _Kept(store)
    try:
        workload = parse_workload(text, namespace)
        table = deciding_table(record, kept)
    except NotKept as error:
        raise Refusal(404, str(error)) from error
    except (ResourceError, EngineError) as error:
        raise Refusal(422, f"the record can't be explained: {error}") from error
    former: Mapping[ObjectKey, str] | None = {}
    if table is not None:
        former = None
        for row in store.tables(workload.text, MOST_TABLES):
            record_of_table = asks.record_of(row)
            if record_of_table.get("table") == table.version:
                former = former_sources(kept.content(record_of_table.get("sources")))
                break
    return _Evidence(record, workload, table, former)


def _report(store: Reading, evidence: _Evidence, enforced: Enforced, manifests: Any) -> Report:
    place = Place(evidence.workload, None, None)

    def again(question: Any, table: CompiledTable) -> Report:
        return replay_beside(manifests, place, question, table, enforced.table)

    try:
        return denial_report(evidence.record, evidence.table, _Kept(store), manifests, place, again)
    except NotKept as error:
        raise Refusal(404, str(error)) from error
    except (ResourceError, EngineError, ValueError) as error:
        raise Refusal(422, f"the record can't be explained: {error}") from error


def _facts(store: Reading, record: Mapping[str, Any]) -> str | None:
    """Return the pod facts that decided, for whoever asks the question again on manifests of his own."""
    content = _Kept(store).content(record.get("facts"))
    return None if content is None else base64.b64encode(content).decode()


def _told(
    made: Report, namespace: str, readable: frozenset[ObjectKey], hidden: bool
) -> tuple[Report, list[str]]:
    """Leave out what is about objects that the asker may not read; say that something is left out."""
    withheld: list[str] = []
    rule = key_of(made.decision.authorization or "")
    if made.decision.rule is not None and (hidden or not _may_see(rule, namespace, readable)):
        decided = short_name(made.decision.authorization or "a rule")
        made = replace(made, why=f"{decided} decides it; whom it means stands where you may not read")
        withheld.append("whom the deciding rule means")
    if hidden and made.near_misses:
        made = replace(made, near_misses=tuple(_without_names(near) for near in made.near_misses))
        withheld.append("whom the nearest grants mean")
    if made.past is not None and made.past.denied_by is not None:
        past = _seen_past(made.past, namespace, readable)
        if past is not made.past:
            made = replace(made, past=past)
            withheld.append("changes of objects that you may not read")
    return made, withheld


def _may_see(key: ObjectKey | None, namespace: str, readable: frozenset[ObjectKey]) -> bool:
    return key is not None and (key.namespace == namespace or key in readable)


def _without_names(near: NearMiss) -> NearMiss:
    whys = zip(near.miss.failed, near.why, strict=False)
    return replace(near, why=tuple(_UNTOLD.get(failed, why) for failed, why in whys))


def _seen_past(past: Past, namespace: str, readable: frozenset[ObjectKey]) -> Past:
    denied = past.denied_by
    if denied is None:
        return past
    changes = tuple(
        each
        if _may_see(key_of(each.object), namespace, readable)
        else ObjectChange(each.what, "an object that you may not read")
        for each in denied.changes
    )
    if changes == denied.changes:
        return past
    return msgspec.structs.replace(past, denied_by=msgspec.structs.replace(denied, changes=changes))
