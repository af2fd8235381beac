"""`policyctl check`: what is wrong with manifests, or with a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from policyd.cli.check_cluster import check_cluster
from policyd.cli.cluster import Cluster, cluster_options
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, Source, now, output_option, source_options
from policyd.cli.output import console, print_data
from policyd.cli.running import socket_path
from policyd.compile.report import report
from policyd.explain.render import printable
from policyd.model.finding import Finding


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@source_options
@output_option
@click.option("--pre", is_flag=True, help="Whether policyd can be installed in the cluster.")
@cluster_options
def command(
    paths: tuple[Path, ...], files: tuple[Path, ...], output: Format, pre: bool, **options: Any
) -> int:
    """Say what is wrong with manifests, or with a cluster and the policyd in it.

    With manifests: each finding with its place and what to do; exits with 1 if there are any. Of a cluster
    (--pre, --context, --kubeconfig, or nothing else to check): one line for each check; exits with 1 if one
    failed. 2: a file is no YAML. 3: the cluster can't be reached. -n is then where policyd is (policyd).

    \b
    Examples:
      policyctl check policies/books
      policyctl check -f policies/books -o json
      policyctl check --pre
      policyctl check
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    cluster = Cluster(options["kubeconfig"], options["context"])
    source = Source((*files, *paths), options["namespace"])
    if pre or cluster.named or (not source.paths and cluster.is_there and not _runs_here()):
        if source.paths:
            raise Failure("expected either manifests or a cluster to check")
        return check_cluster(cluster, _control_plane(source.namespace), output, pre=pre)
    manifests = source.read()
    found = [*manifests.findings, *report(manifests.compiler, now())]
    if output == "table":
        _print(found, len(manifests.world.objects))
    else:
        print_data(as_data(found), output)
    return ExitCode.NO if found else ExitCode.DONE


def _runs_here() -> bool:
    return socket_path().exists()


def _control_plane(namespace: str) -> str:
    """Return where policyd is: -n, which is `default` where nobody said, and policyd is never there."""
    return "policyd" if namespace == "default" else namespace


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
