"""What stands in a `status`: read leniently, compared, made anew. Pure functions of what is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from policyd.model.finding import Finding
from policyd.status.reasons import (
    ACCEPTED,
    DOING_WELL,
    ENFORCED,
    WARNING,
    ConditionType,
    ends_acceptance,
    rank,
    reason_of,
)

MOST_TOLD = 8
"""Findings that a condition's message tells of; it says how many more there are."""
MOST_MESSAGE = 4096
"""Characters of a message; the CRD takes 32,768, a terminal less."""
_OURS = frozenset({ACCEPTED, ENFORCED, WARNING})


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """`metav1.Condition`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class Status(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The `status` of our kinds, as far as it is ours."""

    observed_generation: int = 0
    workloads: int | None = None
    enforcing: int | None = None
    enforced: str | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def ours(self) -> Status:
        """Return it without conditions that others wrote, by type."""
        kept = sorted((each for each in self.conditions if each.type in _OURS), key=lambda each: each.type)
        return msgspec.structs.replace(self, conditions=tuple(kept))

    def of(self, type_: str) -> Condition | None:
        """Return the condition of a type."""
        return next((each for each in self.conditions if each.type == type_), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition before anybody knows since when it is so."""

    type: ConditionType
    holds: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Enforcement:
    """Of so many workloads that an object concerns so many enforce it, and why not the others."""

    workloads: int
    enforcing: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an object's status is to say. `enforcement` is None for kinds that are no rules by themselves."""

    uid: str
    generation: int
    verdicts: tuple[Verdict, ...]
    enforcement: Enforcement | None = None

    def status(self, before: Status, now: str) -> Status:
        """Return the status; a condition that holds as it did keeps the time since when."""
        verdicts = self.verdicts if self.enforcement is None else (*self.verdicts, self.enforcement.verdict)
        made = Status(
            self.generation, conditions=tuple(self._condition(each, before, now) for each in verdicts)
        )
        if self.enforcement is not None:
            of, enforcing = self.enforcement.workloads, self.enforcement.enforcing
            made = msgspec.structs.replace(
                made, workloads=of, enforcing=enforcing, enforced=f"{enforcing}/{of}"
            )
        return made.ours

    def _condition(self, verdict: Verdict, before: Status, now: str) -> Condition:
        holds = "True" if verdict.holds else "False"
        former = before.of(verdict.type)
        same = former is not None and former.status == holds and former.last_transition_time
        since = former.last_transition_time if former is not None and same else now
        return Condition(verdict.type, holds, verdict.reason, verdict.message, since, self.generation)


def verdicts_of(findings: Iterable[Finding]) -> tuple[Verdict, ...]:
    """Return what an object's findings come to: whether it is accepted, and what to think about."""
    found = sorted(dict.fromkeys(findings), key=rank)
    against = [each for each in found if ends_acceptance(each)]
    doubts = [each for each in found if not ends_acceptance(each)]
    if against:
        accepted = Verdict(ACCEPTED, False, reason_of(against[0]).name, message_of(against))
    else:
        accepted = Verdict(ACCEPTED, True, DOING_WELL.name, DOING_WELL.means)
    if not doubts:
        return (accepted,)
    return accepted, Verdict(WARNING, True, reason_of(doubts[0]).name, message_of(doubts))


def message_of(findings: Sequence[Finding]) -> str:
    """Return findings as a message: field, value, what was expected, what to do; bounded."""
    told = [text_of(each) for each in findings[:MOST_TOLD]]
    if len(findings) > MOST_TOLD:
        told.append(f"and {len(findings) - MOST_TOLD} more")
    return cut("\n".join(told), MOST_MESSAGE)


def text_of(finding: Finding) -> str:
    """Return one finding as `policyctl check` words it, without the object that carries it anyway."""
    field = f"{finding.field}: " if finding.field else ""
    return f"{field}{finding.message}{f'; {finding.advice}' if finding.advice else ''}"


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
