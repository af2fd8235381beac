"""`policyctl check`: what is wrong with manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from policyd.cli.check_cluster import (
    Wanted,
    check_canaries,
    check_cluster,
    check_installed,
    check_loopback,
    has_failed,
)
from policyd.cli.check_cluster import as_data as checks_as_data
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
@click.option(
    "--canaries/--no-canaries",
    default=None,
    help="Whether requests are made that must be allowed or denied.  [default: in a cluster, if all is well]",
)
@click.option("--loopback", is_flag=True, help="The canaries on this machine alone, without a cluster.")
def command(
    paths: tuple[Path, ...],
    source: Source,
    output: Format,
    canaries: bool | None,
    **only: bool,
) -> int:
    """Say what is wrong with manifests or a cluster, each finding with its place and what to do.

    Exits with 0 if there are no findings, with 1 if there are, with 2 if a file is no YAML. Of a cluster
    with policyd in it there is, before them, a line for each check of that: --control-plane shows these
    alone, --pre those of a cluster without. A warning there is no reason for 1, and -n is then where policyd
    is, or will be.

    Canaries prove that what is written is enforced: a request that must be allowed, one that must be denied,
    an ambiguous one, one without and one with the wrong identity, made by pods in a namespace of their own,
    which is removed again. --canaries makes them alone, --no-canaries leaves them out; --loopback makes them
    with the programs of this machine.

    \b
    Examples:
      policyctl check policies/books
      policyctl check -f policies/books -o json
      policyctl check --pre
      policyctl check --control-plane
      policyctl check --canaries
      policyctl check --loopback
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    source = source.also(paths)
    alone = _alone(source, canaries, only)
    if alone is not None:
        return _only(alone, source, output)
    manifests = source.read()
    found = [*manifests.findings, *report(manifests.compiler, now())]
    wanted = Wanted(CONTROL_PLANE, output, canaries=canaries is not False)
    checked = [] if source.asked is None else check_installed(source.asked, wanted)
    if output == "table":
        _print(found, len(manifests.world.objects))
    else:
        checks = {"checks": checks_as_data(checked)["checks"]} if checked else {}
        print_data(as_data(found) | checks, output)
    return ExitCode.NO if found or has_failed(checked) else ExitCode.DONE


def _alone(source: Source, canaries: bool | None, only: dict[str, bool]) -> str | None:
    """Return which checks of a cluster are asked for and nothing else. Raises Failure for several."""
    given = [name for name, said in {**only, "canaries": canaries is True}.items() if said]
    if given and (source.paths or len(given) > 1):
        raise Failure("expected one of --pre, --control-plane, --canaries, --loopback and files")
    return given[0] if given else None


def _only(what: str, source: Source, output: Format) -> int:
    cluster, namespace = source.cluster or Cluster(), source.named or CONTROL_PLANE
    if what == "loopback":
        return check_loopback(output)
    if what == "canaries":
        return check_canaries(cluster, Wanted(namespace, output, checks=False))
    return check_cluster(cluster, namespace, output, pre=what == "pre")


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
