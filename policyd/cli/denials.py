"""`policyctl denials`: who was denied what, how often, since when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import yaml

from policyd.cli.cluster import Cluster, access_options
from policyd.cli.cluster_trail import ClusterTrail
from policyd.cli.denial_rows import (
    GROUP_COLUMNS,
    LIST_COLUMNS,
    gap_line,
    group_data,
    group_row,
    list_row,
    record_data,
)
from policyd.cli.exit_codes import ExitCode
from policyd.cli.options import Format, now, output_option
from policyd.cli.output import console, print_data, print_table
from policyd.cli.trail import Ask, store_option, trail
from policyd.explain.readable import printable
from policyd.model.names import parse_workload
from policyd.resources.instants import at_millis, read_instant, rfc3339

FOLLOW_SECONDS = 0.5
SHOWN = 50
MOST_SHOWN = 1000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class When(click.ParamType[datetime]):
    """An RFC 3339 instant, or how long ago: `15m`, `2h`, `7d`."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return it in UTC."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        number, unit = text[:-1], _UNITS.get(text[-1:])
        if unit is not None and number.isascii() and number.isdigit() and len(number) < 7:
            return now() - timedelta(seconds=int(number) * unit)
        try:
            return read_instant(text)
        except ValueError as error:
            self.fail(
                f"{text!r}: expected 15m, 2h, 7d or an instant as 2026-11-21T12:00:00Z: {error}", param, ctx
            )


@dataclass(frozen=True, slots=True)
class Asking:
    """What was asked for on the command line."""

    ask: Ask
    filter: Mapping[str, Any]
    output: Format
    limit: int

    def question(self, by: str, after: int = 0) -> dict[str, Any]:
        return {"ask": "denials", "by": by, "limit": self.limit, "filter": {**self.filter, "after": after}}


@click.command("denials")
@click.option("--since", type=When(), metavar="WHEN", help="15m, 2h, 7d ago, or an instant.  [default: 24h]")
@click.option("--until", type=When(), metavar="WHEN", help="The same; what is later is left out.")
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Of whom it was asked.  [default: all]")
@click.option("--workload", metavar="WORKLOAD", help="Of whom it was asked: deployment/books/authors.")
@click.option("--reason", metavar="REASON", help="As docs/reference/semantics.md lists them.")
@click.option(
    "--peer", metavar="PEER", help="Who asked: namespace/serviceaccount, spiffe://…, or an address."
)
@click.option(
    "--would-be", is_flag=True, help="What audit policies would have denied, in the place of denials."
)
@click.option("--list", "single", is_flag=True, help="Every denial by itself, the oldest first.")
@click.option("--follow", is_flag=True, help="Go on with every new one, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(1, MOST_SHOWN), default=SHOWN, show_default=True, help="Rows.")
@store_option
@access_options
@output_option
def command(store: Path | None, single: bool, follow: bool, output: Format, **wanted: Any) -> int:
    """Show who is denied most: equal denials are one line, with their number and an id to explain.

    Equal is: the same caller, workload, port, method, route, reason and rule. What proxies lost is said
    below. Asks the running `policyctl up`, else the kubeconfig's cluster, with your own rights there: who may
    read one namespace only says -n. Or reads a store by itself. Exits with 0, also where nobody was
    denied.

    \b
    Examples:
      policyctl denials
      policyctl denials --since 15m -n books --reason no_identity
      policyctl denials --peer books/traffic --list -o json
      policyctl denials --would-be --since 7d
      policyctl denials --follow
      policyctl denials -n books --context production
      policyctl denials --store /var/lib/policyd/audit
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    named = (wanted["kubeconfig"], wanted["context"])
    cluster = Cluster(*named) if any(named) else None
    asking = Asking(trail(store, cluster), _filter(follow, **wanted), output, wanted["limit"])
    if follow:
        return _follow(asking)
    if single:
        _list(asking)
    else:
        _groups(asking)
    return ExitCode.DONE


def _filter(follow: bool, **wanted: Any) -> dict[str, Any]:
    """Return the filter as the store takes it. Raises ResourceError for a workload's spelling."""
    begin = wanted["since"] or (now() if follow else now() - timedelta(days=1))
    workload = wanted["workload"]
    given = {
        "since": _millis(begin),
        "until": None if wanted["until"] is None else _millis(wanted["until"]),
        "namespace": wanted["namespace"],
        "workload": workload and parse_workload(workload, wanted["namespace"] or "default").text,
        "reason": wanted["reason"],
        "peer": wanted["peer"],
        "wouldBe": wanted["would_be"],
    }
    return {name: value for name, value in given.items() if value is not None}


def _groups(asking: Asking) -> None:
    answer = asking.ask(asking.question("group"))
    if asking.output != "table":
        found = [group_data(row) for row in answer["denials"]]
        print_data({"denials": found, "gaps": [record_data(gap) for gap in answer["gaps"]]}, asking.output)
        return
    if answer["denials"]:
        print_table(GROUP_COLUMNS, [group_row(row) for row in answer["denials"]])
    _after(asking, answer)


def _list(asking: Asking) -> None:
    answer = asking.ask(asking.question("record"))
    if asking.output != "table":
        records = sorted([*answer["denials"], *answer["gaps"]], key=_place)
        print_data({"denials": [record_data(record) for record in records]}, asking.output)
        return
    if answer["denials"]:
        print_table(LIST_COLUMNS, [list_row(record) for record in answer["denials"]])
    _after(asking, answer)


def _after(asking: Asking, answer: Mapping[str, Any]) -> None:
    """Say what isn't in the table: that there is none, that there is more, what was lost."""
    out = console()
    count = len(answer["denials"])
    begin = rfc3339(at_millis(asking.filter["since"]))
    what = "would have been denied" if asking.filter.get("wouldBe") else "was denied"
    if not count:
        out.print(f"nobody {what} since {begin}", markup=False)
    elif count == asking.limit:
        out.print(f"these {count} only; --limit shows more", style="dim", markup=False)
    for gap in reversed(answer["gaps"]):
        out.print(printable(gap_line(gap)), style="yellow", markup=False)


def _follow(asking: Asking) -> int:
    say = _printer(asking.output)
    try:
        found = asking.ask.follow(asking.filter) if isinstance(asking.ask, ClusterTrail) else _new(asking)
        for record in found:
            say(record)
    except KeyboardInterrupt:
        pass  # how one ends it
    return ExitCode.DONE


def _new(asking: Asking) -> Iterator[Mapping[str, Any]]:
    """Yield what there is since the time that was asked for, then what comes, each once."""
    after = 0
    while True:
        answer = asking.ask({**asking.question("record", after), "limit": MOST_SHOWN})
        denials = answer["denials"]
        yield from sorted([*denials, *answer["gaps"]], key=_place)
        # A full answer may have left some out; else all that was there when the question came was seen.
        seen = max((_place(record) for record in denials), default=0)
        after = seen if len(denials) >= MOST_SHOWN else max(after, seen, answer["last"])
        time.sleep(FOLLOW_SECONDS)


def _printer(output: Format) -> Callable[[Mapping[str, Any]], None]:
    out = console()

    def line(record: Mapping[str, Any]) -> None:
        if record.get("event") in {"denial", "would_deny"}:
            out.print(printable("  ".join(list_row(record))), markup=False, soft_wrap=True)
        else:
            out.print(printable(gap_line(record)), style="yellow", markup=False, soft_wrap=True)

    def as_json(record: Mapping[str, Any]) -> None:
        click.echo(json.dumps(record_data(record), ensure_ascii=False))

    def as_yaml(record: Mapping[str, Any]) -> None:
        click.echo(
            "---\n" + yaml.safe_dump(record_data(record), sort_keys=False, allow_unicode=True), nl=False
        )

    return {"table": line, "json": as_json, "yaml": as_yaml}[output]


def _place(record: Mapping[str, Any]) -> int:
    return int(record["place"])


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)
