"""One measurement of one proxy."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.proxies.load import LoadError, Report, loaded, write_paths
from bench.proxies.model import SERVER, denied_path, dns_name, paths
from bench.proxies.place import Cores, Place
from bench.proxies.process import core_busy_seconds, cpu_nanos, memory
from bench.proxies.programs import Program
from bench.proxies.rows import Kind, Row
from bench.proxies.subject import NotPossibleError, Running, Subject, direct

HELD_CONNECTIONS = 1000
_SETTLE_SECONDS = 1.0
_MOST_FAILED = 0.001
_LEAST_RESUMED = 0.9
_KIB = 1024

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements of a run share."""

    place: Place
    cores: Cores
    load: Program
    seconds: float


def measure(bench: Bench, row: Row, subject: Subject) -> Found:
    """Return the row's figures and what helps to judge them. Raises NotPossibleError, LoadError."""
    match row.kind:
        case Kind.REQUESTS:
            with subject.inbound(bench.place, bench.cores.proxy) as running:
                return _cpu(bench, row, running, [*_tls(bench, row, subject), *_times(bench)])
        case Kind.BOTH:
            with subject.both(bench.place, bench.cores.proxy) as running:
                return _cpu(bench, row, running, _times(bench))
        case Kind.LATENCY:
            return _latency(bench, row, subject)
        case Kind.IDLE:
            with subject.inbound(bench.place, bench.cores.proxy) as running:
                return _idle(running)
        case Kind.HELD:
            with subject.inbound(bench.place, bench.cores.proxy) as running:
                return _held(bench, row, running, _tls(bench, row, subject))


def _cpu(bench: Bench, row: Row, running: Running, words: Sequence[str]) -> Found:
    target = _target(bench, row, running)
    core = bench.cores.proxy
    try:
        with loaded(bench.load, ["run", *target, *row.load, *words], bench.cores.rest) as load:
            cpu, busy, begun = cpu_nanos(running.pids), core_busy_seconds(core), time.monotonic()
            report = load.work()
            cpu = cpu_nanos(running.pids) - cpu
            took, busy = time.monotonic() - begun, core_busy_seconds(core) - busy
    except LoadError as error:
        raise LoadError(f"{error}{_why(running.audit)}") from error
    _check(row, report)
    found: Found = {
        "cpu_us": cpu / 1e3 / report["done"],
        "per_second": report["done"] / report["seconds"],
        "core_share": cpu / 1e9 / took,
        "reconnected": report["reconnected"] / report["done"],
        "resumed": report["resumed"] / report["done"],
        "p50_us": report["p50_us"],
        "p99_us": report["p99_us"],
    }
    if bench.cores.proxy != bench.cores.rest:
        found["others_share"] = max(0.0, busy - cpu / 1e9) / took
    return found


def _why(audit: Path) -> str:
    """Return what our proxy wrote of the last thing it refused; the others' lines say nothing of the kind."""
    lines = audit.read_bytes().splitlines() if audit.is_file() else []
    try:
        record = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return ""
    told = [record[key] for key in ("reason", "detail") if record.get(key)]
    return f" ({', '.join(told)})" if told else ""


def _latency(bench: Bench, row: Row, subject: Subject) -> Found:
    """Compare with no proxy at all right before; wake-ups between cores would be most of either."""
    core = bench.cores.proxy
    with direct(bench.place) as running:
        without = _one_client(bench, row, running, [], core)
    with subject.inbound(bench.place, core) as running:
        with_proxy = _one_client(bench, row, running, _tls(bench, row, subject), core)
    return {key: with_proxy[key] - without[key] for key in ("p50_us", "p99_us", "p999_us")} | {
        "direct_p50_us": without["p50_us"],
        "direct_p99_us": without["p99_us"],
    }


def _one_client(bench: Bench, row: Row, running: Running, words: Sequence[str], core: int) -> Report:
    target = _target(bench, row, running)
    with loaded(bench.load, ["run", *target, *words, *_times(bench)], core) as load:
        report = load.work()
    _check(row, report)
    return report


def _idle(running: Running) -> Found:
    time.sleep(_SETTLE_SECONDS)  # what starting up left behind is given back meanwhile, or not at all
    found = memory(running.pids[0])
    return {"resident_mib": found.resident / _KIB, "anonymous_mib": found.anonymous / _KIB}


def _held(bench: Bench, row: Row, running: Running, words: Sequence[str]) -> Found:
    before = _idle(running)
    target = _target(bench, row, running)
    number = ["--connections", str(HELD_CONNECTIONS)]
    with loaded(bench.load, ["hold", *target, *number, *words], bench.cores.rest) as load:
        after = _idle(running)
        report = load.work()
    _check(row, report)
    grown = after["anonymous_mib"] - before["anonymous_mib"]
    return {"kib": grown * _KIB / HELD_CONNECTIONS, "before_mib": before["anonymous_mib"]}


def _target(bench: Bench, row: Row, running: Running) -> list[str]:
    asked = [denied_path()] if row.denied else paths(bench.place.rules)
    file = write_paths(bench.place.file("paths"), asked)
    return ["--address", f"{running.address[0]}:{running.address[1]}", "--paths", str(file)]


def _tls(bench: Bench, row: Row, subject: Subject) -> list[str]:
    place, names = bench.place, subject.names
    second = row.http == 2
    headers = names.http2_headers if second else ()
    return [
        *("--roots", str(place.roots)),
        *("--chain", str(place.client_pair.chain), "--key", str(place.client_pair.key)),
        *("--server-name", dns_name(SERVER)),
        *("--alpn", names.http2 if second else names.http1),
        *(word for header in headers for word in ("--header", header)),
    ]


def _times(bench: Bench) -> list[str]:
    return ["--seconds", str(bench.seconds), "--warm-up", str(bench.seconds / 4)]


def _check(row: Row, report: Report) -> None:
    """Refuse figures of something else than what the row says."""
    done = report["done"]
    expected = "403" if row.denied else "200"
    right = report["statuses"].get(expected, 0)
    if not done or right != done or report["failed"] > done * _MOST_FAILED:
        told = f"{report['statuses']}, {report['failed']} without an answer"
        raise NotPossibleError(f"expected {expected} to everything, got {told}")
    if row.resumed and report["resumed"] < done * _LEAST_RESUMED:
        raise NotPossibleError(f"it resumed {report['resumed']} of {done} connections")
