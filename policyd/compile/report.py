"""Everything that is wrong with a world, for `policyctl check`: each finding once, errors first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from policyd.compile.compiler import Compiler
from policyd.compile.exposure import of_policies, of_tables
from policyd.compile.probes import not_exempt
from policyd.compile.unused import without_effect
from policyd.model.finding import Finding


def report(compiler: Compiler, now: datetime) -> tuple[Finding, ...]:
    """Return what is wrong with the compiler's world at an instant, by severity, file and line."""
    found = dict.fromkeys(_all(compiler, now))
    return tuple(sorted(found, key=_place))


def _all(compiler: Compiler, now: datetime) -> Iterator[Finding]:
    for each in compiler.world.objects.values():
        yield from each.findings
    yield from compiler.refused.values()
    yield from compiler.failures.values()
    for table in compiler.tables.values():
        yield from table.findings
    yield from without_effect(compiler.world)
    yield from not_exempt(compiler.world)
    yield from of_policies(compiler, now)
    yield from of_tables(compiler)


def _place(finding: Finding) -> tuple[object, ...]:
    origin = finding.origin
    key = finding.key.text if finding.key else ""
    return (
        finding.severity != "error",
        origin.file or "",
        origin.line,
        origin.column,
        key,
        finding.code,
        finding.message,
    )


def errors(findings: Iterable[Finding]) -> int:
    """Return how many of the findings are errors."""
    return sum(1 for finding in findings if finding.severity == "error")
