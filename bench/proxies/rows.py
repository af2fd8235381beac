"""What is measured, and the targets that the project has set itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

MANY = 10_000
FEW = 100


class Kind(Enum):
    """How a row is measured."""

    REQUESTS = auto()
    """CPU of the proxy per answered request."""
    BOTH = auto()
    """The same through two proxies, of both together."""
    LATENCY = auto()
    """What the proxy adds for one client, everything on one core."""
    IDLE = auto()
    """Memory before any traffic."""
    HELD = auto()
    """Memory of kept connections."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a row, and the most it should be.

    `target` is in `unit`, of a machine at rest; `shares` are parts of what peers need in the same run, which
    hold on any machine and so decide where there are some.
    """

    key: str
    unit: str
    target: float | None = None
    shares: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `load` is what the load is told beside whom to call."""

    name: str
    title: str
    kind: Kind
    rules: int
    figures: tuple[Figure, ...]
    load: tuple[str, ...] = ()
    http: int = 1
    denied: bool = False
    resumed: bool = False


def _cpu(target: float | None = None, *shares: tuple[str, float]) -> tuple[Figure, ...]:
    return (Figure("cpu_us", "µs", target, shares),)


def _request(target: float, rules: int, envoy: float, haproxy: float | None = None) -> tuple[Figure, ...]:
    """With many rules Envoy's list costs whatever one likes; there its tree is compared with."""
    of_haproxy = () if haproxy is None else (("haproxy", haproxy),)
    return _cpu(target, ("envoy-matcher" if rules == MANY else "envoy", envoy), *of_haproxy)


_H1 = ("--connections", "16")
_ONE = ("--connections", "1")
_H2 = ("--connections", "4", "--streams", "32", "--http", "2")
_NEW = ("--connections", "16", "--fresh")
_POST_QUANTUM = ("--group", "x25519mlkem768")

ROWS = (
    Row("h1", "HTTP/1.1 request, 16 connections", Kind.REQUESTS, MANY, _request(14, MANY, 0.30, 0.8), _H1),
    Row("h1-few", "HTTP/1.1 request, 16 connections", Kind.REQUESTS, FEW, _request(14, FEW, 0.30, 0.8), _H1),
    Row("h2", "HTTP/2 request, 4×32 streams", Kind.REQUESTS, MANY, _request(12, MANY, 0.45), _H2, http=2),
    Row("h2-few", "HTTP/2 request, 4×32 streams", Kind.REQUESTS, FEW, _request(12, FEW, 0.45), _H2, http=2),
    Row("deny-h1", "denial (403), HTTP/1.1", Kind.REQUESTS, MANY, _request(8, MANY, 0.42), _H1, denied=True),
    Row(
        "deny-h1-few", "denial (403), HTTP/1.1", Kind.REQUESTS, FEW, _request(8, FEW, 0.42), _H1, denied=True
    ),
    Row(
        "deny-h2",
        "denial (403), HTTP/2",
        Kind.REQUESTS,
        MANY,
        _request(2.2, MANY, 0.42),
        _H2,
        http=2,
        denied=True,
    ),
    Row(
        "deny-h2-few",
        "denial (403), HTTP/2",
        Kind.REQUESTS,
        FEW,
        _request(2.2, FEW, 0.42),
        _H2,
        http=2,
        denied=True,
    ),
    Row("new", "new connection, X25519", Kind.REQUESTS, FEW, _cpu(250, ("envoy", 0.55)), _NEW),
    Row(
        "resumed",
        "resumed connection, X25519",
        Kind.REQUESTS,
        FEW,
        _cpu(150, ("envoy", 0.59)),
        (*_NEW, "--resume"),
        resumed=True,
    ),
    Row("new-pq", "new connection, X25519MLKEM768", Kind.REQUESTS, FEW, _cpu(), (*_NEW, *_POST_QUANTUM)),
    Row(
        "resumed-pq",
        "resumed connection, X25519MLKEM768",
        Kind.REQUESTS,
        FEW,
        _cpu(),
        (*_NEW, *_POST_QUANTUM, "--resume"),
        resumed=True,
    ),
    Row(
        "latency",
        "latency added, one client",
        Kind.LATENCY,
        FEW,
        (
            Figure("p50_us", "µs", 26, (("envoy", 0.53), ("haproxy", 0.9))),
            Figure("p99_us", "µs", 45, (("envoy", 0.41), ("haproxy", 0.68))),
        ),
    ),
    Row(
        "both",
        "both sidecars, HTTP/1.1 request, 16 connections",
        Kind.BOTH,
        FEW,
        _cpu(28, ("envoy", 0.37)),
        _H1,
    ),
    Row("both-one", "both sidecars, HTTP/1.1 request, 1 connection", Kind.BOTH, FEW, _cpu(), _ONE),
    Row(
        "idle",
        "resident memory, idle",
        Kind.IDLE,
        MANY,
        (Figure("resident_mib", "MiB", 8), Figure("anonymous_mib", "MiB", 4)),
    ),
    Row("held", "memory of an idle connection, of 1,000", Kind.HELD, FEW, (Figure("kib", "KiB", 12),)),
)
