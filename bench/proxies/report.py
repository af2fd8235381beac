"""What a run found: a table on the screen, Markdown with bars, and every measurement as a JSON line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.proxies import machine
from bench.proxies.run import Plan, Result
from bench.proxies.summary import OURS, PROXIES, Line, others_share, short, summarise

_COLUMNS = ("per", "rules", *PROXIES, "÷ envoy", "÷ haproxy", "target", "")
_BAR_CHARACTERS = 40


def table(plan: Plan, results: Sequence[Result]) -> Table:
    """Return the table for a screen."""
    made = Table(*_COLUMNS, title="policyd-proxy beside its peers")
    for line in summarise(plan.rows, results):
        made.add_row(*_cells(line))
    return made


def write(plan: Plan, results: Sequence[Result], folder: Path) -> None:
    """Write `proxies.md` and `proxies.jsonl` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "proxies.md").write_text(markdown(plan, results))
    lines = (json.dumps(asdict(result), ensure_ascii=False) for result in results)
    (folder / "proxies.jsonl").write_text("".join(f"{line}\n" for line in lines))


def markdown(plan: Plan, results: Sequence[Result]) -> str:
    """Return the whole report."""
    lines = summarise(plan.rows, results)
    return (
        "\n\n".join(
            part for part in (_head(plan, results), _table(lines), _problems(lines), _bars(lines)) if part
        ).rstrip()
        + "\n"
    )


def _head(plan: Plan, results: Sequence[Result]) -> str:
    cores = plan.cores
    placed = "everything on one core" if cores.proxy == cores.rest else "the proxy on a core of its own"
    shared = others_share(results)
    noise = "" if shared is None else f" Others had {shared:.0%} of the proxy's core (median)."
    times = f"{plan.repetitions} × {plan.seconds:g} s each, in turn; median (least–most)."
    return f"# Measured\n\nWritten by `python -m bench proxies`. {machine.kind()}; {placed}. {times}{noise}"


def _table(lines: Sequence[Line]) -> str:
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    return "\n".join([head, *(f"| {' | '.join(_cells(line))} |" for line in lines)])


def _cells(line: Line) -> list[str]:
    target = line.figure.target
    return [
        line.title,
        f"{line.row.rules:,}",
        *(_with_unit(line, proxy) for proxy in PROXIES),
        line.ratio("envoy"),
        line.ratio("haproxy"),
        "–" if target is None else f"≤ {target:g} {line.figure.unit}",
        line.verdict,
    ]


def _with_unit(line: Line, proxy: str) -> str:
    return f"{line.cell(proxy)} {line.figure.unit}" if proxy in line.numbers else line.cell(proxy)


def _problems(lines: Sequence[Line]) -> str:
    found = {
        f"- {line.row.name}, {proxy}: {problem}" for line in lines for proxy, problem in line.problems.items()
    }
    return "\n".join(["Not measured:", "", *sorted(found)]) if found else ""


def _bars(lines: Sequence[Line]) -> str:
    """Draw the CPU figures: twice ours is twice as long, and what doesn't fit ends in an arrow."""
    blocks = [_block(line) for line in lines if line.figure.key == "cpu_us" and OURS in line.numbers]
    return "\n".join(["```text", "\n\n".join(blocks), "```"]) if blocks else ""


def _block(line: Line) -> str:
    unit = line.numbers[OURS].median / (_BAR_CHARACTERS / 5)
    drawn = [f"{line.title}, {line.row.rules:,} rules"]
    for proxy, number in line.numbers.items():
        length = max(1, round(number.median / unit))
        bar = "█" * length if length <= _BAR_CHARACTERS else "█" * (_BAR_CHARACTERS - 1) + "▶"
        drawn.append(f"  {proxy:<14} {bar} {short(number.median)} {line.figure.unit}")
    return "\n".join(drawn)
