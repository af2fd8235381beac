"""The CPU figures of a run as bars."""

from __future__ import annotations

from collections.abc import Sequence

import pygal
from pygal.style import CleanStyle

from bench.proxies.summary import PROXIES, Line


def svg(lines: Sequence[Line]) -> str:
    """Return the plot: a group of bars for each row whose figure is CPU, on a logarithmic axis."""
    drawn = [line for line in reversed(lines) if line.figure.key == "cpu_us" and line.numbers]
    chart = pygal.HorizontalBar(
        logarithmic=True,
        style=CleanStyle,
        title="CPU of the proxy per request or connection, µs (logarithmic)",
        width=900,
        height=60 * len(drawn) + 160,
        legend_at_bottom=True,
        js=(),
        truncate_label=-1,
        margin_right=30,
        disable_xml_declaration=True,
    )
    chart.x_labels = [f"{line.title}, {line.row.rules:,} rules" for line in drawn]
    for proxy in PROXIES:
        chart.add(proxy, [_median(line, proxy) for line in drawn])
    text: str = chart.render(is_unicode=True)
    return f"{text.rstrip()}\n"


def _median(line: Line, proxy: str) -> float | None:
    number = line.numbers.get(proxy)
    return None if number is None else round(number.median, 1)
