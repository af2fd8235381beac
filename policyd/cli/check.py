"""`policyctl check`: what is wrong with manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from policyd.cli.check_cluster import as_data as checks_as_data
from policyd.cli.check_cluster import check_cluster, check_installed, has_failed
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, Source, now, output_option, source_options
from policyd.cli.output import console, print_data
from policyd.compile.report import report
from policyd.explain.readable import printable
from policyd.model.finding import Finding

CONTROL_PLANE = "policyd"
"""Where policyd is looked for unless -n says otherwise."""


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@source_options
@output_option
@click.option("--pre", is_flag=True, help="Whether policyd can be installed in the cluster.")
@click.option("--control-plane", is_flag=True, help="Whether the policyd in the cluster is well.")
def command(
    paths: tuple[Path, ...], source: Source, output: Format, *, pre: bool, control_plane: bool
) -> int:
    """Say what is wrong with manifests or a cluster, each finding with its place and what to do.

    Exits with 0 if there are no findings, with 1 if there are, with 2 if a file is no YAML. Of a cluster
    with policyd in it there is, before them, a line for each check of that: --control-plane shows these
    alone, --pre those of a cluster without. A warning there is no reason for 1, and -n is then where policyd
    is, or will be.

    \b
    Examples:
      policyctl check policies/books
      policyctl check -f policies/books -o json
      policyctl check --pre
      policyctl check --control-plane
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    source = source.also(paths)
    if pre or control_plane:
        if source.paths or (pre and control_plane):
            raise Failure("expected one of --pre, --control-plane and files")
        return check_cluster(source.cluster or Cluster(), source.named or CONTROL_PLANE, output, pre=pre)
    manifests = source.read()
    found = [*manifests.findings, *report(manifests.compiler, now())]
    checked = [] if source.asked is None else check_installed(source.asked, CONTROL_PLANE, output)
    if output == "table":
        _print(found, len(manifests.world.objects))
    else:
        checks = {"checks": checks_as_data(checked)["checks"]} if checked else {}
        print_data(as_data(found) | checks, output)
    return ExitCode.NO if found or has_failed(checked) else ExitCode.DONE


def as_data(found: Sequence[Finding]) -> dict[str, object]:
    """Return findings as plain values."""
    return {
        "findings": [
            {
                "severity": each.severity,
                "code": each.code,
                "object": each.key.text if each.key else None,
                "field": each.field or None,
                "message": each.message,
                "advice": each.advice or None,
                "file": each.origin.file,
                "line": each.origin.line or None,
                "column": each.origin.column or None,
            }
            for each in found
        ],
        "errors": sum(each.severity == "error" for each in found),
        "warnings": sum(each.severity == "warning" for each in found),
    }


def _print(found: Sequence[Finding], objects: int) -> None:
    out = console()
    for each in found:
        style = "red" if each.severity == "error" else "yellow"
        out.print(Text(printable(each.text), style))
    errors = sum(each.severity == "error" for each in found)
    if found:
        out.print(f"{errors} errors, {len(found) - errors} warnings in {objects} objects")
    else:
        out.print(f"no findings in {objects} objects", style="green")
