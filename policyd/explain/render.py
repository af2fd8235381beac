"""An explanation as one page for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from policyd.explain.consequences import AlsoAllows
from policyd.explain.fix import Fix
from policyd.explain.history import LastChange
from policyd.explain.logged import Logged, later_text, logged_text
from policyd.explain.past import Past
from policyd.explain.past import Place as PlaceOfChange
from policyd.explain.readable import printable, short_name
from policyd.explain.report import NearMiss, Report
from policyd.explain.story import caller_text, request_text

LABEL = 12
"""Columns of the labels at the left."""


def render(report: Report, console: Console) -> None:
    """Print the page."""
    told = report.decision
    style = "bold green" if told.allowed else "bold red"
    verdict = Text("ALLOWED" if told.allowed else "DENIED", style)
    status = "" if told.status is None else f"  HTTP {told.status}"
    grpc = "" if told.grpc_status is None else f"  gRPC {told.grpc_status}"
    console.print(verdict + Text(f"  {told.reason}{status}{grpc}"))
    console.print()
    _line(console, "request", f"{request_text(told)} to {report.place.workload.text}:{report.question.port}")
    _line(console, "caller", f"{caller_text(told, report.trust_domain)} at {told.peer.ip}")
    _named(console, report, "server", told.server)
    _named(console, report, "route", told.route)
    _named(console, report, "rule", told.authorization, "authorization")
    _line(console, "because", report.why)
    if report.history is not None:
        _line(console, "changed", _changed(report.history))
        if report.history.logged is not None:
            _logged(console, report.history.logged)
    if told.audit is not None:
        also = (
            f" by {', '.join(map(short_name, told.audit.authorizations))}"
            if told.audit.authorizations
            else ""
        )
        _line(console, "audit", f"with everything enforced: {told.audit.verdict}, {told.audit.reason}{also}")
    _misses(console, report.near_misses)
    if report.now is not None:
        console.print()
        same = "the same" if report.now.table == told.table else "another table by now"
        _line(
            console, "now", f"{'allowed' if report.now.allowed else 'denied'}, {report.now.reason} ({same})"
        )
        for unknown in report.unknown_now:
            _line(console, "unknown", f"{unknown}, and what is enforced now reads it")
    if report.past is not None:
        _past(console, report.past)
    if told.step and report.is_sought and not (report.now or told).allowed:
        _fix(console, report.fix)


def _line(console: Console, label: str, text: str) -> None:
    line = Text(f"{label:<{LABEL}}", "dim") + Text(printable(text))
    console.print(line)


def _logged(console: Console, logged: Logged) -> None:
    _line(console, "logged", logged_text(logged))
    if logged.later is not None:
        _line(console, "later", later_text(logged.later))


def _named(console: Console, report: Report, label: str, name: str | None, key: str = "") -> None:
    place = report.written.get(key or label)
    _line(console, label, "none" if name is None else f"{short_name(name)}{f'  {place}' if place else ''}")


def _past(console: Console, past: Past) -> None:
    """Print since when it is denied, and by whose change."""
    for unknown in past.unknown:
        _line(console, "unknown", f"{unknown}, and a former table reads it")
    if past.ended:
        _line(console, "since", "nothing was changed: a grant that it had has ended (validUntil)")
        return
    if past.allowed_by is None:
        _line(console, "since", f"not allowed by any of the {past.looked} tables that are kept")
        return
    if past.denied_by is None:
        _line(console, "since", f"allowed by the table itself, in force since {past.allowed_by.time}")
        return
    _line(console, "since", f"allowed until {past.denied_by.time}; then this was changed:")
    for change in past.denied_by.changes:
        if not change.places:
            _line(console, "", f"  {change.what} {short_name(change.object)}")
        for place in change.places:
            field = f" {place.field}" if place.field else ""
            _line(console, "", f"  {change.what} {short_name(change.object)}{field}  {_wrote(place)}")
        if change.logged is not None:
            _line(console, "", f"    logged: {logged_text(change.logged)}")


def _wrote(place: PlaceOfChange) -> str:
    by = f" by {place.author}" if place.author else ""
    commit = f" in {place.commit[:12]}" if place.commit else ""
    through = f" through {place.through}" if place.through else ""
    return f"{place.place}  {place.at or 'at a time unknown'}{by}{commit}{through}"


def _changed(change: LastChange) -> str:
    by = f" by {change.author}" if change.author else ""
    commit = f" in {change.commit} ({change.subject})" if change.commit else ""
    through = f" through {change.through}" if change.through else ""
    how = f" ({change.operation})" if change.operation else ""
    return f"{change.at}{by}{how}{commit}{through}"


def _misses(console: Console, misses: tuple[NearMiss, ...]) -> None:
    if not misses:
        return
    console.print()
    console.print(Text("nearest grants", "bold"))
    for near in misses:
        console.print(Text(f"  {short_name(near.miss.authorization)}  {near.written or ''}".rstrip()))
        for why in near.why:
            console.print(Text(f"    {printable(why)}"))


def _fix(console: Console, fix: Fix | None) -> None:
    console.print()
    if fix is None:
        console.print(Text("No small change of the manifests would allow it.", "bold"))
        return
    console.print(Text("the smallest change that allows it (compiled and decided again)", "bold"))
    for step in fix.summary:
        console.print(Text(f"  {printable(step)}"))
    console.print()
    for line in fix.patch.splitlines():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
        console.print(Text(f"  {printable(line)}", style))
    console.print()
    console.print(Text("what else it allows", "bold"))
    for text in _also(fix.also_allows):
        console.print(Text(f"  {printable(text)}"))


def _also(entries: tuple[AlsoAllows, ...]) -> list[str]:
    return [entry.text for entry in entries] or ["nothing"]
