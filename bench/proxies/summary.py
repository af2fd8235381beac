"""Many measurements to one number each: median, smallest and largest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.proxies.rows import Figure, Row
from bench.proxies.run import Result

OURS = "policyd-proxy"
PROXIES = (OURS, "envoy", "envoy-matcher", "haproxy")


@dataclass(frozen=True, slots=True)
class Number:
    """What several repetitions came to."""

    median: float
    least: float
    most: float

    @property
    def text(self) -> str:
        """As in a table: the median, and the range where there is one."""
        if self.least == self.most:
            return short(self.median)
        return f"{short(self.median)} ({short(self.least)}–{short(self.most)})"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one row, of all proxies. A proxy without a number has a problem, or wasn't asked."""

    row: Row
    figure: Figure
    numbers: Mapping[str, Number]
    problems: Mapping[str, str]

    @property
    def title(self) -> str:
        """As in a table."""
        more = len(self.row.figures) > 1
        return f"{self.row.title}, {self.figure.key.rsplit('_', 1)[0]}" if more else self.row.title

    def share(self, peer: str) -> float | None:
        """Return what part of a peer's number ours is; None where one of them is missing."""
        ours, theirs = self.numbers.get(OURS), self.numbers.get(peer)
        if ours is None or theirs is None or theirs.median <= 0:
            return None
        return ours.median / theirs.median

    @property
    def verdict(self) -> str:
        """Say whether the target is met, as far as this run can tell."""
        ours = self.numbers.get(OURS)
        shares = [(self.share(peer), most) for peer, most in self.figure.shares]
        known = [share <= most for share, most in shares if share is not None]
        if self.figure.target is None and not self.figure.shares:
            return "–"
        if ours is None:
            return "not yet"
        if ours.least <= 0:
            return "noise"  # less than nothing was added: the machine had other things to do
        met = all(known) if known else self.figure.target is not None and ours.median <= self.figure.target
        return "met" if met else "missed"

    def cell(self, proxy: str) -> str:
        """Return a proxy's number as text."""
        number = self.numbers.get(proxy)
        if number is not None:
            return number.text
        return "not measured" if proxy in self.problems else "–"


def summarise(rows: Iterable[Row], results: Sequence[Result]) -> list[Line]:
    """Return a line for each figure of each row."""
    return [_line(row, figure, results) for row in rows for figure in row.figures]


def others_share(results: Sequence[Result]) -> float | None:
    """Return the share of the proxies' core that others took, over all measurements; None where unknown."""
    shares = [each.found["others_share"] for each in results if each.found and "others_share" in each.found]
    return median(shares) if shares else None


def short(value: float) -> str:
    """Write a number with as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _line(row: Row, figure: Figure, results: Sequence[Result]) -> Line:
    values: dict[str, list[float]] = defaultdict(list)
    problems: dict[str, str] = {}
    for result in results:
        if result.row == row.name and result.found is not None:
            values[result.proxy].append(result.found[figure.key])
        elif result.row == row.name and result.problem is not None:
            problems[result.proxy] = result.problem
    numbers = {proxy: Number(median(all_), min(all_), max(all_)) for proxy, all_ in values.items()}
    return Line(row, figure, numbers, problems)
