"""What `policyctl up` shows: a line for each thing that happened, with who said it in front."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import click

from policyd.explain.readable import short_identity

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
_WIDTH = 16

Style = Callable[[str], str]


class Screen:
    """Lines on a stream; `quiet` leaves out what applications say."""

    def __init__(self, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._stream = stream or sys.stdout
        self._colours: dict[str, str] = {}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Tell of the run itself."""
        self._write("up", text, bold=True)

    def problem(self, text: str) -> None:
        """Tell of something the user should look at."""
        self._write("up", text, _red, bold=True)

    def application(self, pod: str, line: str) -> None:
        """Pass on what a container wrote."""
        if not self._quiet:
            self._write(pod, line)

    def service(self, name: str, line: str) -> None:
        """Pass on what one of our processes wrote, if it is a warning or somebody wants everything."""
        record = parse_record(line)
        if record is not None and record.get("event") == "source_problem" and not self._verbose:
            return  # the kubelet, which reads the same folder, says it already
        level = str((record or {}).get("level", "")).lower()
        if self._verbose or record is None or level in {"warning", "warn", "error", "critical"}:
            self._write(name, line if record is None else service_line(record))

    def denial(self, pod: str, record: Mapping[str, Any]) -> None:
        """Tell of a denial in one line."""
        self._write(pod, denial_line(record), _red)

    def _write(self, name: str, text: str, style: Style = str, bold: bool = False) -> None:
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        prefix = click.style(f"{name:<{_WIDTH}}", fg=None if bold else colour, bold=bold)
        try:
            click.echo(f"{prefix} {style(_printable(text))}", file=self._stream)
        except BrokenPipeError:
            self._stream = open("/dev/null", "w")  # noqa: SIM115 — nobody reads any more; the run goes on


def _red(text: str) -> str:
    return click.style(text, fg="red")


def _printable(text: str) -> str:
    """Make text of what others wrote: nothing of it may steer the terminal."""
    return "".join(each if each.isprintable() or each == "\t" else f"\\x{ord(each):02x}" for each in text)


def parse_record(line: str) -> dict[str, Any] | None:
    """Return a log line as the JSON object it is; None for any other."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


_LEFT_OUT = frozenset({"timestamp", "at", "level", "message", "event", "target"})


def service_line(record: Mapping[str, Any]) -> str:
    """Say a log record in one line: what happened, then the fields."""
    what = record.get("message") or record.get("event") or ""
    fields = (f"{key}={value}" for key, value in record.items() if key not in _LEFT_OUT and value != "")
    return " ".join([str(record.get("level", "")).upper(), str(what), *fields])


def denial_line(record: Mapping[str, Any]) -> str:
    """Say a denial: `denied GET /books/3 from books/traffic: no_matching_rule (019…)`."""
    peer, request = record.get("peer") or {}, record.get("request") or {}
    what = f"{request.get('method')} {request.get('path')}" if request else f"port {record.get('port')}"
    who = short_identity(peer.get("identity")) or f"{peer.get('ip')} without identity"
    if record.get("event") == "would_deny":
        audit = record.get("audit") or {}
        by = ", ".join(audit.get("authorizations") or ())
        why = f"{audit.get('reason')} by {by}" if by else audit.get("reason")
        return f"would deny {what} from {who}: {why} ({record.get('id')})"
    by = f" by {record['authorization']}" if record.get("authorization") else ""
    return f"denied {what} from {who}: {record.get('reason')}{by} ({record.get('id')})"
