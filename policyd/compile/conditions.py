"""Items of `when` as conditions of a table (semantics V1)."""

from __future__ import annotations

from collections.abc import Iterable

from policyd.compile.rows import Condition, ConditionSubject, ConditionTest
from policyd.resources.conditions import HeaderTest, PathTest, QueryTest, WhenItem

_SUBJECTS = {
    "header": ConditionSubject.HEADER,
    "query": ConditionSubject.QUERY,
    "method": ConditionSubject.METHOD,
    "host": ConditionSubject.HOST,
    "path": ConditionSubject.PATH,
}


def conditions_of(when: Iterable[WhenItem]) -> tuple[Condition, ...]:
    """Return the conditions, in the order written."""
    return tuple(_condition(item) for item in when)


def reads_path(conditions: Iterable[Condition]) -> bool:
    """Whether one of them looks at the path (decision record 2, G5)."""
    return any(condition.subject is ConditionSubject.PATH for condition in conditions)


def _condition(item: WhenItem) -> Condition:
    test = item.test
    name = test.name if isinstance(test, HeaderTest | QueryTest) else ""
    subject = _SUBJECTS[item.subject]
    if test.in_ is not None:
        return Condition(subject, name, ConditionTest.IN, _values(test.in_))
    if test.not_in is not None:
        return Condition(subject, name, ConditionTest.NOT_IN, _values(test.not_in))
    if isinstance(test, HeaderTest | QueryTest | PathTest) and test.prefix is not None:
        return Condition(subject, name, ConditionTest.PREFIX, (test.prefix,))
    wanted = isinstance(test, HeaderTest | QueryTest) and test.exists is True
    return Condition(subject, name, ConditionTest.EXISTS if wanted else ConditionTest.ABSENT, ())


def _values(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))
