"""`python -m bench [NAME…] [-o json]`: run measurements and print them."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.proxies import report
from bench.proxies.rows import ROWS
from bench.proxies.run import make_plan
from bench.proxies.run import run as compare

NAMES = ("engine", "compile", "identity", "streams", "scale", "crowd", "proxies")

_WIDE = 170
_console = Console(stderr=True)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--quick", is_flag=True, help="proxies: one second, once; to see that it works.")
@click.option(
    "--rows",
    multiple=True,
    type=click.Choice([row.name for row in ROWS]),
    help="proxies: only this row; may be repeated.",
)
@click.option("--one-core", is_flag=True, help="proxies: load and proxy share one core.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/benchmarks"),
    show_default=True,
    help="proxies: where proxies.md and proxies.jsonl are written.",
)
def main(
    names: tuple[str, ...], output: str, quick: bool, rows: tuple[str, ...], one_core: bool, into: Path
) -> None:
    """Measure NAMES, by default everything. Figures depend on the machine; compare within one run only."""
    found: list[dict[str, object]] = []
    for name in names or NAMES:
        _console.print(f"measuring {name} …")
        if name == "proxies":
            found += _proxies(rows, quick, one_core, into)
        else:
            found += _shown(importlib.import_module(f"bench.{name}").run(), output)
    if output == "json":
        json.dump(found, sys.stdout, indent=1)


def _proxies(rows: tuple[str, ...], quick: bool, one_core: bool, into: Path) -> list[dict[str, object]]:
    plan = make_plan(rows, quick, one_core)
    results = compare(plan, lambda line: _console.print(line, highlight=False, markup=False))
    report.write(plan, results, into)
    wide = _console if _console.is_terminal else Console(stderr=True, width=_WIDE)
    wide.print(report.table(plan, results))
    return [asdict(result) for result in results]


def _shown(rows: list[dict[str, object]], output: str) -> list[dict[str, object]]:
    if output == "table":
        _print(rows)
    return rows


def _print(rows: list[dict[str, object]]) -> None:
    groups: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for columns, members in groups.items():
        table = Table(*columns)
        for row in members:
            table.add_row(*(str(row[column]) for column in columns))
        Console().print(table)


if __name__ == "__main__":
    main()
