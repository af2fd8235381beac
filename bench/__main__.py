"""`python -m bench [NAME…] [-o json]`: run measurements and print them."""

from __future__ import annotations

import importlib
import json
import sys

import click
from rich.console import Console
from rich.table import Table

NAMES = ("engine", "compile", "identity", "streams")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(names: tuple[str, ...], output: str) -> None:
    """Measure NAMES, by default everything. Figures depend on the machine; compare within one run only."""
    console = Console(stderr=True)
    rows: list[dict[str, object]] = []
    for name in names or NAMES:
        console.print(f"measuring {name} …")
        rows += importlib.import_module(f"bench.{name}").run()
    if output == "json":
        json.dump(rows, sys.stdout, indent=1)
        return
    _print(rows)


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
