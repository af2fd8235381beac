"""`policyctl routes`: who may call what of a workload."""

from __future__ import annotations

from collections.abc import Iterator

import click

from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, Source, output_option, source_options
from policyd.cli.output import print_data, print_table
from policyd.compile.rows import Access, Effect, Route, Scope
from policyd.explain.readable import (
    DEFAULT_WORDS,
    ReadablePort,
    ReadableRule,
    ports_of,
    route_text,
    short_name,
)


@click.command("routes")
@click.argument("workload")
@source_options
@output_option
def command(workload: str, source: Source, output: Format) -> int:
    """Show who may call what of WORKLOAD: for each port and route the grants, and what narrows them.

    \b
    Examples:
      policyctl routes deployment/books/authors -f policies/books
      policyctl routes deploy/authors -n books -f policies/books -o json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    manifests = source.read()
    place = source.place(manifests, workload)
    table = manifests.table_of(place)
    if table is None:
        raise Failure(
            f"{place.workload.text} has no table: its identity can't be accepted; see `policyctl check`"
        )
    rows = [row for port in ports_of(table) for row in rows_of(port)]
    if output == "table":
        columns = ("port", "requests", "action", "who", "when", "because")
        print_table(columns, [[str(row[column] or "-") for column in columns] for row in rows])
    else:
        print_data({"workload": place.workload.text, "routes": rows}, output)
    return ExitCode.DONE


def rows_of(port: ReadablePort) -> Iterator[dict[str, str | None]]:
    """Yield a row for each rule that concerns a port's requests, by route; the default last."""
    for route in port.routes:
        for rule in port.rules:
            if rule.route is route:
                yield _row(port, route, rule)
        if not any(rule.route is route for rule in port.rules):
            yield {**_row(port, route, None), "action": "no rule of its own"}
    for rule in port.rules:
        if rule.route is None:
            yield _row(port, None, rule)
    if port.access is not Access.DENY or not any(rule.effect is Effect.ALLOW for rule in port.rules):
        yield {**_row(port, None, None), "action": "default", "who": DEFAULT_WORDS[port.access]}


def _row(port: ReadablePort, route: Route | None, rule: ReadableRule | None) -> dict[str, str | None]:
    every_http = rule is not None and rule.scope is Scope.HTTP
    requests = route_text(route) if route else "every HTTP request" if every_http else _everything(port)
    return {
        "port": port.name,
        "requests": requests,
        "action": rule.action if rule else None,
        "who": rule.who if rule else None,
        "when": (rule.when or None) if rule else None,
        "because": short_name(rule.authorization) if rule else short_name(port.server) or None,
    }


def _everything(port: ReadablePort) -> str:
    return "every route" if port.routes else "everything"
