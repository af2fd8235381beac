"""Printing: JSON and YAML for machines, rich tables for people; colour on a terminal only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec
import yaml
from rich.console import Console
from rich.table import Table

from policyd.cli.options import Format

PLAIN_WIDTH = 120
"""Columns of YAML."""
UNBOUND_WIDTH = 4096
"""Columns where no terminal says how many there are: lines for grep and cut aren't folded."""


def console() -> Console:
    """Return a console for stdout: colour and the terminal's width where it is one."""
    if sys.stdout.isatty():
        return Console(highlight=False, no_color="NO_COLOR" in os.environ)
    return Console(highlight=False, no_color=True, width=UNBOUND_WIDTH)


def say(*lines: str) -> None:
    """Say something to the person, on stderr: stdout is for other programs."""
    for line in lines:
        click.echo(line, err=True)


def print_data(value: Any, output: Format) -> None:
    """Print plain values, msgspec structs or dataclasses as JSON or YAML.

    Letters that a terminal would obey are escaped: JSON by itself leaves those beyond ASCII as they are.
    """
    plain = msgspec.to_builtins(value, str_keys=True)
    if output == "yaml":
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=PLAIN_WIDTH)
        if not all(map(_is_harmless, text)):
            text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=False, width=PLAIN_WIDTH)
        click.echo(text, nl=False)
        return
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    click.echo("".join(letter if _is_harmless(letter) else json.dumps(letter)[1:-1] for letter in text))


def _is_harmless(letter: str) -> bool:
    return letter == "\n" or letter.isprintable()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings, without frames, so that it can be cut and grepped."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    console().print(table)


def _escaped(text: str) -> str:
    """Text from manifests is text, not markup, and holds no control characters that a terminal would obey."""
    clean = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    return clean.replace("[", "\\[")


def pick(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the named entries in that order."""
    return {name: value[name] for name in names if name in value}
