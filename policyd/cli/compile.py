"""`policyctl compile`: a workload's rule table, readable."""

from __future__ import annotations

from collections.abc import Iterable

import click

from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, Source, output_option, source_options
from policyd.cli.output import console, print_data, print_table
from policyd.compile.table import CompiledTable
from policyd.explain.answer import written_at
from policyd.explain.manifests import Manifests
from policyd.explain.readable import ACCESS, ReadablePort, ReadableRule, ports_of, route_text, short_name


@click.command("compile")
@click.argument("workload")
@source_options
@output_option
def command(workload: str, source: Source, output: Format) -> int:
    """Show the rule table that WORKLOAD enforces: every port with its rules in order of attribution.

    \b
    Examples:
      policyctl compile deployment/books/authors -f policies/books
      policyctl compile deploy/authors -n books -f policies/books -o json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    manifests = source.read()
    place = source.place(manifests, workload)
    table = manifests.table_of(place)
    if table is None:
        raise Failure(
            f"{place.workload.text} has no table: its identity can't be accepted; see `policyctl check`"
        )
    if output == "table":
        _print(place.workload.text, table, manifests)
    else:
        print_data(as_data(place.workload.text, table, manifests), output)
    return ExitCode.DONE


def as_data(workload: str, table: CompiledTable, manifests: Manifests) -> dict[str, object]:
    """Return a table as plain values, its rules with the place they were written at."""
    return {
        "workload": workload,
        "version": table.version,
        "ports": [_port_data(port, manifests) for port in ports_of(table)],
    }


def _port_data(port: ReadablePort, manifests: Manifests) -> dict[str, object]:
    return {
        "ports": list(port.numbers) or "other",
        "protocol": port.protocol.lower(),
        "server": port.server or None,
        "default": ACCESS[port.access],
        "routes": [{"name": route.name, "matches": route_text(route)} for route in port.routes],
        "probes": list(port.probes),
        "rules": [_rule_data(rule, manifests) for rule in port.rules],
    }


def _rule_data(rule: ReadableRule, manifests: Manifests) -> dict[str, object]:
    return {
        "action": rule.effect.name.lower(),
        "mode": "audit" if rule.audit else "enforce",
        "level": rule.level,
        "authorization": rule.authorization,
        "who": rule.who,
        "what": rule.what,
        "when": rule.when or None,
        "origin": rule.origin,
        "written": written_at(manifests, rule.origin).text or None,
    }


def _print(workload: str, table: CompiledTable, manifests: Manifests) -> None:
    out = console()
    out.print(f"{workload}  {table.version}", markup=False)
    for port in ports_of(table):
        owner = short_name(port.server) if port.server else "no Server"
        out.print()
        out.print(
            f"port {port.name}  {port.protocol.lower()}  {owner}  default {ACCESS[port.access]}", style="bold"
        )
        for probe in port.probes:
            out.print(f"  probe {probe}", markup=False)
        for route in port.routes:
            out.print(f"  route {short_name(route.name)}: {route_text(route)}", markup=False)
        if port.rules:
            rows = list(_rows(port.rules, manifests))
            print_table(("action", "who", "what", "when", "authorization", "written"), rows)


def _rows(rules: Iterable[ReadableRule], manifests: Manifests) -> Iterable[tuple[str, ...]]:
    for rule in rules:
        written = written_at(manifests, rule.origin).text
        yield rule.action, rule.who, rule.what, rule.when or "-", short_name(rule.authorization), written
