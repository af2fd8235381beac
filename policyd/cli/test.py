"""`policyctl test`: run PolicyTest files."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, output_option
from policyd.cli.output import console, print_data
from policyd.explain.policytest import Expected, find_tests
from policyd.explain.testrun import Outcome, run


@click.command("test")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("-v", "--verbose", is_flag=True, help="List the cases that passed, too.")
@output_option
def command(paths: tuple[Path, ...], verbose: bool, output: Format) -> int:
    """Run every PolicyTest in files and folders (default: this folder).

    Each case is decided by the engine that enforces, on the table that the manifests compile to.

    \b
    Examples:
      policyctl test
      policyctl test policies/books -v
      policyctl test policies -o json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    found = find_tests(paths or (Path(),))
    if found.problems:
        raise Failure("\n".join(problem.text for problem in found.problems))
    if not found.files:
        raise Failure("no PolicyTest in " + ", ".join(map(str, paths or (Path(),))), ExitCode.NOT_FOUND)
    outcomes = [outcome for file in found.files for outcome in run(file)]
    if output == "table":
        _print(outcomes, verbose)
    else:
        print_data(report(outcomes), output)
    return ExitCode.DONE if all(outcome.passed for outcome in outcomes) else ExitCode.NO


def report(outcomes: list[Outcome]) -> dict[str, object]:
    """Return what `-o json` prints."""
    passed = sum(outcome.passed for outcome in outcomes)
    return {
        "cases": [
            {
                "test": outcome.file.test.metadata.name,
                "name": outcome.case.name,
                "passed": outcome.passed,
                "expected": expected(outcome.case.expect),
                "decision": None if outcome.decision is None else msgspec.to_builtins(outcome.decision),
                "wrong": list(outcome.wrong),
            }
            for outcome in outcomes
        ],
        "passed": passed,
        "failed": len(outcomes) - passed,
    }


def expected(given: Expected) -> dict[str, object]:
    """Return the fields a case expects, as written."""
    return given.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _print(outcomes: list[Outcome], verbose: bool) -> None:
    out = console()
    for outcome in outcomes:
        if outcome.passed and not verbose:
            continue
        mark = "[green]ok[/]  " if outcome.passed else "[red]FAIL[/]"
        out.print(f"{mark} ", end="")
        out.print(f"{outcome.place}: {outcome.case.name}", markup=False)
        for wrong in outcome.wrong:
            out.print(f"       {wrong}", markup=False)
    failed = sum(not outcome.passed for outcome in outcomes)
    tests = len({(outcome.file.path, outcome.file.test.metadata.name) for outcome in outcomes})
    summary = f"{len(outcomes) - failed} passed, {failed} failed in {tests} tests"
    out.print(f"[red]{summary}[/]" if failed else f"[green]{summary}[/]")
