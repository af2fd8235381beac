"""Manifests that a command reads, changes and prints: files, folders or stdin in, documents out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import yaml

from policyd.cli.failures import Failure
from policyd.cli.output import PLAIN_WIDTH, print_data
from policyd.errors import SourceError
from policyd.resources.base import Document
from policyd.resources.metadata import DEFAULT_NAMESPACE
from policyd.sources.files import SUFFIXES
from policyd.sources.yaml_documents import MOST_BYTES, parse

STDIN = Path("-")
Command = TypeVar("Command", bound=Callable[..., Any])
Written = Literal["yaml", "json"]


def manifest_options(command: Command) -> Command:
    """Add -f and -o; the command gets `files` and `output: Written`."""
    with_output = click.option(
        "-o",
        "--output",
        type=click.Choice(["yaml", "json"]),
        default="yaml",
        show_default=True,
        help="How to print the manifests.",
    )
    with_files = click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="PATH",
        help="File or folder of manifests, or - for stdin; may be repeated.",
    )
    return with_files(with_output(command))


def read_documents(paths: Sequence[Path]) -> list[Document]:
    """Return all manifests, in the order written. Raises Failure for what is no YAML or no manifest."""
    found: list[Document] = []
    for path in paths:
        for name, content in _contents(path):
            parsed = parse(content, name)
            wrong = (*parsed.problems, *parsed.findings)
            if wrong:
                raise Failure("\n".join(each.text for each in wrong))
            found += parsed.documents
    return found


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    if path == STDIN:
        yield "stdin", sys.stdin.buffer.read(MOST_BYTES + 1)
        return
    files = [path]
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
        if not files:
            raise SourceError(f"{path}: no manifests there: expected files that end in .yaml, .yml or .json")
    for file in files:
        with file.open("rb") as opened:
            yield str(file), opened.read(MOST_BYTES + 1)


def print_documents(documents: Sequence[Any], output: Written) -> None:
    """Print manifests, as a stream of YAML documents or as a List in JSON."""
    if output == "json":
        print_data({"apiVersion": "v1", "kind": "List", "items": list(documents)}, "json")
        return
    text = yaml.safe_dump_all(
        documents, sort_keys=False, allow_unicode=True, width=PLAIN_WIDTH, explicit_start=len(documents) > 1
    )
    click.echo(text, nl=False)


def named(document: Document) -> str:
    """Return what a manifest is called in a report: `deployment/books/authors`."""
    content = document.content
    metadata = content.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    namespace = given.get("namespace", DEFAULT_NAMESPACE)
    name = given.get("name", given.get("generateName", "?"))
    return f"{str(content.get('kind')).lower()}/{namespace}/{name}"


def report(line: str) -> None:
    """Write a line for people, beside the manifests; nothing in it is obeyed by a terminal."""
    click.echo("".join(letter if letter.isprintable() else " " for letter in line), err=True)
