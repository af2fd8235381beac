"""`policyctl check` of a cluster: one line for each check, as it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from kubeapi.client import Client
from policyd.checkup import control_plane, preflight
from policyd.checkup.check import Category, Reported, run
from policyd.checkup.reading import installed
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.options import Format
from policyd.cli.output import console, print_data
from policyd.explain.readable import printable

_STYLE = {"ok": "green", "warning": "yellow", "error": "red", "skipped": "dim"}
_MARK = {"ok": "ok", "warning": "warn", "error": "FAIL", "skipped": "skip"}


def check_cluster(cluster: Cluster, namespace: str, output: Format, *, pre: bool) -> int:
    """Run the checks and print them. Raises ApiError, AccessError where nobody can be asked."""
    categories = (preflight if pre else control_plane).categories(namespace)
    reported = cluster.ask(lambda client: _report(client, categories, shown=output == "table"))
    if output != "table":
        print_data(as_data(reported), output)
    return ExitCode.NO if has_failed(reported) else ExitCode.DONE


def check_installed(cluster: Cluster, namespace: str, output: Format) -> list[Reported]:
    """Run the checks of the policyd in a namespace; none where there is none. Prints them for `table`."""

    async def ask(client: Client) -> list[Reported]:
        if await installed(client, namespace) is None:
            return []
        return await _report(client, control_plane.categories(namespace), shown=output == "table")

    return cluster.ask(ask)


def has_failed(reported: Sequence[Reported]) -> bool:
    """Whether any check found something that doesn't work."""
    return any(line.result.outcome == "error" for line in reported)


async def _report(client: Client, categories: Sequence[Category], *, shown: bool) -> list[Reported]:
    reported: list[Reported] = []
    async for line in run(client, categories):
        if shown:
            _print(line, is_first=not reported or reported[-1].category != line.category)
        reported.append(line)
    if shown:
        counts = as_data(reported)
        told = f"{counts['errors']} errors, {counts['warnings']} warnings in {len(reported)} checks"
        console().print(Text(f"\n{told}"))
    return reported


def _print(line: Reported, *, is_first: bool) -> None:
    out = console()
    if is_first:
        out.print(Text(f"{line.category}", "bold"))
    result = line.result
    detail = f": {result.detail}" if result.detail else ""
    mark = Text(f"  {_MARK[result.outcome]:<5}", _STYLE[result.outcome])
    out.print(mark + Text(printable(f"{line.text}{detail}"), "" if result.outcome == "ok" else "default"))
    if result.advice:
        out.print(Text(printable(f"         {result.advice}"), "dim"))


def as_data(reported: Sequence[Reported]) -> dict[str, Any]:
    """Return checks as plain values."""
    return {
        "checks": [
            {
                "category": line.category,
                "check": line.text,
                "result": line.result.outcome,
                "detail": line.result.detail or None,
                "advice": line.result.advice or None,
            }
            for line in reported
        ],
        "errors": sum(line.result.outcome == "error" for line in reported),
        "warnings": sum(line.result.outcome == "warning" for line in reported),
    }
