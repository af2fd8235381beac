"""`policyctl check` of a cluster: one line for each check, as it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from kubeapi.client import Client
from policyd.checkup import control_plane, preflight
from policyd.checkup.check import Category, Reported, run
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.options import Format
from policyd.cli.output import console, print_data
from policyd.explain.render import printable

_STYLE = {"ok": "green", "warning": "yellow", "error": "red", "skipped": "dim"}
_MARK = {"ok": "ok", "warning": "warn", "error": "FAIL", "skipped": "skip"}


def check_cluster(cluster: Cluster, namespace: str, output: Format, *, pre: bool) -> int:
    """Run the checks and print them. Raises ApiError, AccessError where nobody can be asked."""
    categories = (preflight if pre else control_plane).categories(namespace)
    reported = cluster.ask(lambda client: _report(client, categories, shown=output == "table"))
    failed = sum(line.result.outcome == "error" for line in reported)
    warned = sum(line.result.outcome == "warning" for line in reported)
    if output == "table":
        console().print(Text(f"\n{failed} errors, {warned} warnings in {len(reported)} checks"))
    else:
        print_data(_as_data(reported, failed, warned), output)
    return ExitCode.NO if failed else ExitCode.DONE


async def _report(client: Client, categories: Sequence[Category], *, shown: bool) -> list[Reported]:
    reported: list[Reported] = []
    async for line in run(client, categories):
        if shown:
            _print(line, is_first=not reported or reported[-1].category != line.category)
        reported.append(line)
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


def _as_data(reported: Sequence[Reported], failed: int, warned: int) -> dict[str, Any]:
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
        "errors": failed,
        "warnings": warned,
    }
