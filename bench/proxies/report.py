"""What a run found: a table on the screen, Markdown with a plot, and every measurement as a JSON line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.proxies import machine, plot
from bench.proxies.run import Plan, Result
from bench.proxies.summary import PROXIES, Line, others_share, summarise

_COLUMNS = ("per", "rules", *PROXIES, "÷ envoy", "÷ haproxy", "target", "")


def table(plan: Plan, results: Sequence[Result]) -> Table:
    """Return the table for a screen."""
    made = Table(*_COLUMNS, title="policyd-proxy beside its peers")
    for line in summarise(plan.rows, results):
        made.add_row(*_cells(line))
    return made


def write(plan: Plan, results: Sequence[Result], folder: Path) -> None:
    """Write `proxies.md`, `proxies.svg` and `proxies.jsonl` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "proxies.md").write_text(markdown(plan, results))
    (folder / "proxies.svg").write_text(plot.svg(summarise(plan.rows, results)))
    lines = (json.dumps(asdict(result), ensure_ascii=False) for result in results)
    (folder / "proxies.jsonl").write_text("".join(f"{line}\n" for line in lines))


def markdown(plan: Plan, results: Sequence[Result]) -> str:
    """Return the whole report."""
    lines = summarise(plan.rows, results)
    drawn = "![CPU of each proxy, row by row](proxies.svg)"
    parts = (_head(plan, results), _table(lines), drawn, _problems(lines))
    return "\n\n".join(part for part in parts if part) + "\n"


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
    return [
        line.title,
        f"{line.row.rules:,}",
        *(_with_unit(line, proxy) for proxy in PROXIES),
        *("–" if (share := line.share(peer)) is None else f"{share:.2f}" for peer in ("envoy", "haproxy")),
        _target(line),
        line.verdict,
    ]


def _target(line: Line) -> str:
    shares = [f"{most:g} × {peer}" for peer, most in line.figure.shares]
    target = line.figure.target
    most = shares or ([] if target is None else [f"{target:g} {line.figure.unit}"])
    return f"≤ {', '.join(most)}" if most else "–"


def _with_unit(line: Line, proxy: str) -> str:
    return f"{line.cell(proxy)} {line.figure.unit}" if proxy in line.numbers else line.cell(proxy)


def _problems(lines: Sequence[Line]) -> str:
    found = {
        f"- {line.row.name}, {proxy}: {problem}" for line in lines for proxy, problem in line.problems.items()
    }
    return "\n".join(["Not measured:", "", *sorted(found)]) if found else ""
