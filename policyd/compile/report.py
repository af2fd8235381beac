"""Everything that is wrong with a world, for `policyctl check`: each finding once, errors first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from policyd.compile.compiler import Compiler
from policyd.compile.exposure import of_policy, of_table
from policyd.compile.probes import not_exempt
from policyd.compile.unused import without_effect
from policyd.model.finding import Finding


def report(compiler: Compiler, now: datetime) -> tuple[Finding, ...]:
    """Return what is wrong with the compiler's world at an instant, by severity, file and line."""
    found = dict.fromkeys(each for each in steps(compiler, now) if each is not None)
    return tuple(sorted(found, key=_place))


def steps(compiler: Compiler, now: datetime) -> Iterator[Finding | None]:
    """Yield every finding, some twice, and None after each object and workload.

    At None somebody may do something else, even change the world: a finding is about an object as it was when
    it was looked at, and what changed since is looked at the next time.
    """
    world = compiler.world
    for shape in compiler.stale:
        compiler.make(shape)
        yield None
    yield from [*compiler.refused.values(), *compiler.failures.values()]
    for found in sorted(world.objects.values(), key=lambda each: each.key):
        yield from found.findings
        yield from without_effect(world, found)
        yield from not_exempt(found)
        yield from of_policy(compiler, found, now)
        yield None
    for name in world.workloads.names():
        table = compiler.table(name)
        if table is not None:
            yield from table.findings
            yield from of_table(compiler, name, table)
        yield None


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
