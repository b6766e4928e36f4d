"""Curves as SVG, drawn here: nothing is fetched, and no script is needed to read them.

The picture stretches with the page; the words beside it are HTML, so that they keep their size on
a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

WIDTH: Final = 1000  # of the drawing, in its own units
HEIGHT: Final = 300
COLUMNS: Final = 800  # of which each keeps its lowest and highest point
LEVELS_MAX: Final = 6
TIMES_MAX: Final = 7
SECOND_NS: Final = 1_000_000_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
STEPS_SECONDS: Final = (
    60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000,
)  # fmt: skip

type Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line: points (ts in ns, value), by time. `style` is its class in the style sheet."""

    name: str
    style: str
    points: Points


def chart(id_: str, title: str, about: str, curves: Sequence[Curve]) -> str:
    """Return a figure with these curves over one another; `about` says in words what it shows."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return f"<p>{escape(title)}: neither result has an equity curve.</p>"
    first, last = min(ts for ts, _ in points), max(ts for ts, _ in points)
    low, high, step = _levels(min(v for _, v in points), max(v for _, v in points))
    span, rise = max(last - first, 1), high - low
    lines = "".join(
        f'<polyline class="{curve.style}" points="{_drawn(curve.points, first, span, low, rise)}"/>'
        for curve in curves
    )
    count = round(rise / step)
    levels = [(low + step * number, 100 - 100 * number / count) for number in range(count + 1)]
    grid = "".join(
        f'<line x1="0" x2="{WIDTH}" y1="{y * HEIGHT / 100:.1f}" y2="{y * HEIGHT / 100:.1f}"'
        f' class="{"zero" if abs(level) < step / 2 else "grid"}"/>'
        for level, y in levels
    )
    ys = "".join(
        f'<span style="top:{y:.2f}%">{escape(_level_text(level, step))}</span>'
        for level, y in levels
    )
    xs = "".join(
        f'<span style="left:{100 * (ts - first) / span:.2f}%">{text}</span>'
        for ts, text in _times(first, last)
    )
    names = "".join(
        f'<li><i class="key {curve.style}"></i>{escape(curve.name)}</li>' for curve in curves
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<ul class="legend">{names}</ul><div class="chart"><div class="ys">{ys}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-labelledby="{id_}-title {id_}-desc"><title id="{id_}-title">{escape(title)}</title>'
        f'<desc id="{id_}-desc">{escape(about)}</desc>{grid}{lines}</svg>'
        f'<div class="xs">{xs}</div></div></figure>'
    )


def thinned(points: Points, columns: int = COLUMNS) -> list[tuple[int, float]]:
    """Return at most two points a column of time, its lowest and highest; the ends stay."""
    if len(points) <= 2 * columns:
        return list(points)
    first, last = points[0][0], points[-1][0]
    kept: dict[int, list[tuple[int, float]]] = {}
    for point in points:
        column = (point[0] - first) * columns // max(last - first, 1)
        ends = kept.setdefault(column, [point, point])
        ends[0] = min(ends[0], point, key=lambda each: each[1])
        ends[1] = max(ends[1], point, key=lambda each: each[1])
    found = {points[0], points[-1]}.union(*kept.values())
    return sorted(found)


def _drawn(points: Points, first: int, span: int, low: float, rise: float) -> str:
    return " ".join(
        f"{(ts - first) * WIDTH / span:.1f},{HEIGHT - (value - low) * HEIGHT / rise:.1f}"
        for ts, value in thinned(points)
    )


def _levels(low: float, high: float) -> tuple[float, float, float]:
    """Return lowest, highest and the step between levels worth a label: 1, 2 or 5 times 10**n."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return -1.0, 1.0, 1.0
    rough = (high - low) / (LEVELS_MAX - 2)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _level_text(level: float, step: float) -> str:
    if abs(level) < step / 2:
        return "0"
    if step < 0.001:
        return f"{level:.0e}"
    return f"{level:,.{max(0, -math.floor(math.log10(step)))}f}"


def _times(first: int, last: int) -> list[tuple[int, str]]:
    """Return times worth a label, with it: full days, hours or minutes, UTC."""
    seconds = (last - first) / SECOND_NS
    step = next((s for s in STEPS_SECONDS if seconds / s <= TIMES_MAX), STEPS_SECONDS[-1])
    step_ns = step * SECOND_NS
    if seconds / step > TIMES_MAX:
        step_ns *= math.ceil(seconds / step / TIMES_MAX)
    form = "%b %d" if step_ns >= 86_400 * SECOND_NS else "%H:%M"
    begin = -(-first // step_ns) * step_ns
    return [(ts, _time_text(ts, form)) for ts in range(begin, last + 1, step_ns)]


def _time_text(ts: int, form: str) -> str:
    try:
        return (EPOCH + timedelta(seconds=ts // SECOND_NS)).strftime(form)
    except OverflowError:
        return ""
