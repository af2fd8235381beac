"""All rows, all proxies, several times in turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.proxies import programs
from bench.proxies.load import LoadError
from bench.proxies.measure import Bench, measure
from bench.proxies.place import Cores
from bench.proxies.rows import MANY, ROWS, Kind, Row
from bench.proxies.subject import NotPossibleError, Subject
from bench.proxies.world import work_folder, world

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how often."""

    rows: tuple[Row, ...]
    repetitions: int
    seconds: float
    cores: Cores


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement, or why there is none."""

    row: str
    proxy: str
    repetition: int
    found: dict[str, Any] | None
    problem: str | None = None


def make_plan(names: Sequence[str], quick: bool, one_core: bool) -> Plan:
    """Choose rows by name (all without one). Raises KeyError for a name that no row has."""
    known = {row.name: row for row in ROWS}
    rows = tuple(known[name] for name in names) or ROWS
    repetitions, seconds = (1, 1.0) if quick else (3, 4.0)
    return Plan(rows, repetitions, seconds, Cores.of_machine(one_core))


def run(plan: Plan, say: Say) -> list[Result]:
    """Measure everything of the plan; what can't be is said and left out."""
    load = programs.load()
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {plan.cores.rest})  # the control plane inherits it
    try:
        results: list[Result] = []
        for rules in dict.fromkeys(row.rules for row in plan.rows):
            part = replace(plan, rows=tuple(row for row in plan.rows if row.rules == rules))
            with work_folder() as folder:
                results += asyncio.run(_with_rules(part, rules, folder, load, say))
        return results
    finally:
        os.sched_setaffinity(0, ours)


async def _with_rules(plan: Plan, rules: int, folder: Path, load: programs.Program, say: Say) -> list[Result]:
    say(f"{rules} rules: identity and policyd start …")
    async with world(folder, rules, plan.cores, load) as made:
        bench = Bench(made.place, plan.cores, load, plan.seconds)
        present = list(_present(made.subjects, say))
        results: list[Result] = []
        turns = [
            (row, number, each) for row in plan.rows for number in range(plan.repetitions) for each in present
        ]
        for row, repetition, subject in turns:
            if not _differs(row, subject) or _is_impossible(row, subject, results):
                continue
            # In a thread: the loop goes on reading what the control plane says.
            results.append(await asyncio.to_thread(_measured, bench, row, subject, repetition))
            say(_line(row, results[-1]))
        return results


def _present(subjects: Iterable[Subject], say: Say) -> Iterable[Subject]:
    for subject in subjects:
        missing = subject.missing()
        if missing is None:
            yield subject
        else:
            say(f"SKIPPED {subject.name}: {missing}")


def _is_impossible(row: Row, subject: Subject, results: Sequence[Result]) -> bool:
    """Whether an earlier repetition found that it can't be measured."""
    same = (each for each in results if (each.row, each.proxy) == (row.name, subject.name))
    return any(each.found is None for each in same)


def _differs(row: Row, subject: Subject) -> bool:
    """Envoy's second form of rules is no other Envoy where no rule is looked at."""
    return subject.name != "envoy-matcher" or (row.kind in {Kind.REQUESTS, Kind.IDLE} and row.rules == MANY)


def _measured(bench: Bench, row: Row, subject: Subject, repetition: int) -> Result:
    try:
        found = measure(bench, row, subject)
    except (NotPossibleError, LoadError, TimeoutError) as error:
        return Result(row.name, subject.name, repetition, None, str(error))
    return Result(row.name, subject.name, repetition, found)


def _line(row: Row, result: Result) -> str:
    head = f"{row.name:<12} {result.proxy:<14} #{result.repetition + 1} "
    if result.found is None:
        return f"{head} NOT MEASURED: {result.problem}"
    figures = ", ".join(f"{result.found[each.key]:.1f} {each.unit}" for each in row.figures)
    share = result.found.get("core_share")
    others = result.found.get("others_share")
    notes = [] if share is None else [f"{share:.0%} of its core"]
    notes += [] if others is None else [f"others {others:.0%}"]
    notes += [f"{result.found['per_second']:.0f}/s"] if "per_second" in result.found else []
    return f"{head} {figures}  ({', '.join(notes)})" if notes else f"{head} {figures}"
