"""All pods, followed: which of those in enrolled namespaces have no working proxy (P-19, within a minute)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, ObjectName, Told, Undecodable
from policyd.admission.annotations import INJECT, OPT_OUT, Problem
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.injection import Injection
from policyd.admission.unmeshed import CLOSED, Unmeshed, unmeshed

LOOK_SECONDS = 10.0
"""Between two looks: what is wrong for longer is told of, well within the minute that is promised."""
Tell = Callable[[tuple[Unmeshed, ...]], None]
"""Told of what is wrong now, whenever that changed."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What would be wrong with a pod if its namespace were enrolled; `loose`: if pods may leave there."""

    strict: Unmeshed | None
    loose: Unmeshed | None


_WELL = _Seen(None, None)
_ENROLLED = {INJECT: "enabled"}
_LOOSE = {**_ENROLLED, OPT_OUT: "allowed"}


class UnmeshedWatch:
    """Pods by what is wrong with them; `run` it until cancelled. Of a pod that is well nothing is kept."""

    def __init__(
        self,
        client: Client,
        find: Callable[[str], NamespaceFacts | None],
        injection: Injection,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`find` says what is known of a namespace."""
        self.findings: tuple[Unmeshed, ...] = ()
        """What was wrong at the last look. A proxy that is down must have been so at two looks."""
        self.listeners: list[Tell] = []
        """Whoever writes Events, say."""
        self._find = find
        self._injection = injection
        self._look_seconds = look_seconds
        self._seen: dict[ObjectName, _Seen] = {}
        self._before: frozenset[Unmeshed] = frozenset()
        self._reflector: Reflector[_Seen] = Reflector(
            client, ResourcePath("", "v1", "pods"), self._decode, self._take
        )
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Follow pods, and look at what is known of them every few seconds."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reflector.run())
            tasks.create_task(self._look())

    def _decode(self, body: msgspec.Raw) -> _Seen:
        try:
            return self._judge(msgspec.json.decode(body))
        except (KeyError, TypeError, AttributeError) as fault:  # not as the API's schema has it
            raise ValueError(f"{type(fault).__name__}: {fault}") from fault

    def _judge(self, written: dict[str, Any]) -> _Seen:
        namespace = str(written["metadata"]["namespace"])
        strict = unmeshed(written, NamespaceFacts(namespace, _ENROLLED), self._injection)
        if strict is None:
            return _WELL  # where pods may leave, less is asked of them
        return _Seen(strict, unmeshed(written, NamespaceFacts(namespace, _LOOSE), self._injection))

    def _take(self, told: Told[_Seen]) -> None:
        for change in told.changes:
            self._seen.pop(change.name, None)
            if not isinstance(change, Applied):
                continue
            found = change.object
            if isinstance(found, Undecodable):
                problem = Problem("object", f"it can't be read: {found.problem[:200]}")
                bad = Unmeshed(change.name.namespace, change.name.name, change.uid, "not_ours", problem)
                found = _Seen(bad, bad)
            if found.strict is not None or found.loose is not None:
                self._seen[change.name] = found

    async def _look(self) -> None:
        await self._reflector.listed.wait()
        while True:
            self._compare(self._now())
            await asyncio.sleep(self._look_seconds)

    def _now(self) -> frozenset[Unmeshed]:
        found = set()
        for name, seen in self._seen.items():
            facts = self._find(name.namespace)
            if facts is not None and facts.enrolled:
                wrong = seen.loose if facts.opt_out else seen.strict
                if wrong is not None:
                    found.add(wrong)
        return frozenset(found)

    def _compare(self, now: frozenset[Unmeshed]) -> None:
        """Tell of what is new and of what is over."""
        down = {(each.uid, each.reason) for each in self._before}
        lasting = {each for each in now if each.reason not in CLOSED or (each.uid, each.reason) in down}
        self._before = now
        findings = tuple(sorted(lasting, key=lambda each: (each.namespace, each.name)))
        if findings == self.findings:
            return
        known = {(each.uid, each.reason) for each in self.findings}
        for each in findings:
            if (each.uid, each.reason) not in known:
                self._log.error(
                    "unmeshed_pod", pod=each.pod, uid=each.uid, reason=each.reason, problem=each.problem.text
                )
        wrong = {each.uid for each in findings}
        for each in self.findings:
            if each.uid not in wrong:
                self._log.info("unmeshed_pod_over", pod=each.pod, uid=each.uid, reason=each.reason)
        self.findings = findings
        for tell in self.listeners:
            tell(findings)
