"""`--api-audit-log`: files of the API server that the user has, which say who a change came from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from policyd.cli.options import Command
from policyd.cli.output import say
from policyd.explain.log_search import LogSearch
from policyd.explain.report import Report
from policyd.sources.kubernetes.api_audit import Write, writes

NO_CLUSTER = "--api-audit-log tells of a cluster's objects: name it with --context or --kubeconfig"
_STDIN = Path("-")


def _once(_: click.Context, __: click.Parameter, values: tuple[Path, ...]) -> tuple[Path, ...]:
    if values.count(_STDIN) > 1:
        raise click.BadParameter("- is standard input: expected once")
    return values


def api_audit_log_option(command: Command) -> Command:
    """Add --api-audit-log; the command gets `logs`, to give to `with_logs`."""
    option = click.option(
        "--api-audit-log",
        "logs",
        multiple=True,
        callback=_once,
        type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
        metavar="FILE",
        help="Audit log of the API server, to say which user changed what; may be repeated; - is stdin.",
    )
    return option(command)


def with_logs(answer: Report, logs: tuple[Path, ...]) -> Report:
    """Return the report with what the logs tell of its changes. Raises SourceError, OSError."""
    if not logs:
        return answer
    search = LogSearch(answer)
    if not search.is_needed:
        say("# --api-audit-log: not read, since no change of an object of a cluster is told")
        return answer
    for path in logs:
        search.read(_writes(path))
    return search.result()


def _writes(path: Path) -> Iterator[Write]:
    if path == _STDIN:
        yield from writes(sys.stdin.buffer, "standard input")
        return
    with path.open("rb") as log:
        yield from writes(log, str(path))
