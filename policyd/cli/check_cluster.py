"""`policyctl check` of a cluster: one line for each check, as it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from kubeapi.client import Client
from policyd.checkup import control_plane, preflight
from policyd.checkup.check import Category, Reported, Result, run
from policyd.checkup.reading import installed
from policyd.checkup.workloads import WORKLOADS
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format
from policyd.cli.output import console, print_data
from policyd.explain.readable import printable
from policyd.install.settings import InstallSettings

_STYLE = {"ok": "green", "warning": "yellow", "error": "red", "skipped": "dim"}
_MARK = {"ok": "ok", "warning": "warn", "error": "FAIL", "skipped": "skip"}


def check_cluster(cluster: Cluster, namespace: str, output: Format, *, pre: bool) -> int:
    """Run the checks and print them. Raises ApiError, AccessError where nobody can be asked."""
    categories = (preflight if pre else control_plane).categories(namespace)
    return _ended(cluster.ask(lambda client: _report(client, categories, shown=output == "table")), output)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a cluster, where its policyd is, and how the answer is printed."""

    namespace: str
    output: Format
    checks: bool = True
    canaries: bool = True

    @property
    def shown(self) -> bool:
        """Whether each line is printed as it is known."""
        return self.output == "table"


def check_installed(cluster: Cluster, wanted: Wanted) -> list[Reported]:
    """Run what is wanted of the policyd in a namespace; nothing where there is none. Prints for `table`.

    Canaries are for a control plane that is well: else they would only say again that it isn't.
    """

    async def ask(client: Client) -> list[Reported]:
        settings = await installed(client, wanted.namespace)
        if settings is None:
            return []
        reported: list[Reported] = []
        if wanted.checks:
            categories = control_plane.categories(wanted.namespace)
            reported = await _report(client, categories, shown=wanted.shown)
        if wanted.canaries:
            reported += await _canaries(client, settings, wanted, reported)
        return reported

    return cluster.ask(ask)


async def _canaries(
    client: Client, settings: InstallSettings, wanted: Wanted, before: Sequence[Reported]
) -> list[Reported]:
    from policyd.canary.cluster import InCluster, none_out  # noqa: PLC0415 - only where they are let out

    ill = [line for line in before if line.result.outcome == "error" and line.category != WORKLOADS]
    if ill:
        told = none_out(Result("skipped", f"first: {ill[0].text}"))
    else:
        told = await InCluster(client, settings).report()
    if wanted.shown:
        _print_all(told)
    return told


def check_canaries(cluster: Cluster, wanted: Wanted) -> int:
    """Let the canaries out in a cluster, and say what came of it. Raises ApiError, AccessError."""
    told = check_installed(cluster, wanted)
    if not told:
        raise Failure(f"no policyd in namespace {wanted.namespace}: name it with -n", ExitCode.NOT_FOUND)
    return _ended(told, wanted.output)


def check_loopback(output: Format) -> int:
    """Let the canaries out on this machine. Raises SourceError where nothing starts."""
    from policyd.canary.loopback import Loopback, nest  # noqa: PLC0415 - as above

    told = asyncio.run(Loopback(nest()).report())
    if output == "table":
        _print_all(told)
    return _ended(told, output)


def _ended(told: Sequence[Reported], output: Format) -> int:
    if output != "table":
        print_data(as_data(told), output)
    return ExitCode.NO if has_failed(told) else ExitCode.DONE


def _print_all(told: Sequence[Reported]) -> None:
    for number, line in enumerate(told):
        _print(line, is_first=number == 0)


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
