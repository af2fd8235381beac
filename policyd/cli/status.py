"""`policyctl status`: what a running `policyctl up` enforces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from policyd.cli.exit_codes import ExitCode
from policyd.cli.options import Format, output_option
from policyd.cli.output import console, print_data, print_table
from policyd.cli.running import ask_up
from policyd.explain.readable import printable


@click.command("status")
@output_option
def command(output: Format) -> int:
    """Say which proxies of the running `policyctl up` enforce which table, and what is wrong there.

    Exits with 0 if every proxy enforces what it should, denials are kept and there are no findings, with 1
    if not, with 3 if none runs.

    \b
    Example:
      policyctl status
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    status = ask_up({"ask": "status"})
    if output == "table":
        _print(status)
    else:
        print_data(status, output)
    return ExitCode.DONE if is_well(status) else ExitCode.NO


def is_well(status: dict[str, Any]) -> bool:
    """Whether everything that should be enforced is."""
    settled = all(
        proxy.get("wanted") == proxy.get("enforced") and not proxy.get("narrowed")
        for proxy in status.get("proxies", ())
    )
    if any(_audit_problems(status.get("audit") or {})):
        return False
    return (
        settled and not status.get("notConnected") and not status.get("findings") and not status.get("broken")
    )


def _print(status: dict[str, Any]) -> None:
    out = console()
    for label, key in (("folder", "folder"), ("trust domain", "trustDomain")):
        out.print(f"{label:<14}{printable(str(status.get(key) or '-'))}", markup=False)
    audit = status.get("audit") or {}
    if audit:
        kept = f"{audit.get('records')} records kept, {audit.get('lost')} said to be lost"
        out.print(f"{'audit':<14}{kept}", markup=False)
    for problem in _audit_problems(audit):
        out.print(f"{'':<14}{printable(problem)}", style="red", markup=False)
    out.print()
    rows = [_row(proxy) for proxy in status.get("proxies", ())]
    rows += [(pod, "-", "not connected", "-", "-") for pod in status.get("notConnected", ())]
    print_table(("pod", "workload", "state", "wanted", "enforced"), rows)
    for finding in status.get("findings", ()):
        out.print(printable(str(finding)), style="yellow", markup=False)
    if status.get("broken"):
        out.print(printable(str(status["broken"])), style="red", markup=False)


def _audit_problems(audit: dict[str, Any]) -> Iterator[str]:
    if audit.get("problem"):
        yield f"nothing can be kept now: {audit['problem']}"
    if audit.get("rolledBack"):
        yield f"{audit['rolledBack']} records that proxies know are missing: see `policyctl audit verify`"


def _row(proxy: dict[str, Any]) -> tuple[str, ...]:
    state = f"{proxy.get('state', '-')}{': ' + proxy['detail'] if proxy.get('detail') else ''}"
    if proxy.get("narrowed"):
        state += (
            f"; too old (reads version {proxy.get('readerVersion')}): {proxy['narrowed']} rules refuse for it"
        )
    return (
        str(proxy.get("pod", "-")),
        str(proxy.get("workload", "-")),
        state,
        _short(proxy.get("wanted")),
        _short(proxy.get("enforced")),
    )


def _short(version: object) -> str:
    """Return the beginning of a version, as people compare them."""
    return "-" if not isinstance(version, str) else version.removeprefix("sha256:")[:12]
