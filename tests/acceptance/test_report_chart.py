"""acceptance/report_chart.py: curves as SVG."""

import random
import re

import pytest

from acceptance.report_chart import Curve, chart, thinned

MINUTE = 60_000_000_000
DAY = 1440 * MINUTE


def drawn(text: str) -> list[tuple[float, float]]:
    """Return the points of the first line in a chart."""
    found = re.search(r'<polyline class="a" points="([^"]*)"', text)
    assert found is not None
    pairs = [point.split(",") for point in found[1].split()]
    return [(float(x), float(y)) for x, y in pairs]


def labels(text: str, axis: str) -> list[str]:
    """Return the labels of an axis in their order."""
    found = re.search(rf'<div class="{axis}">(.*?)</div>', text)
    assert found is not None
    return re.findall(r"<span[^>]*>([^<]*)</span>", found[1])


def curve(*values: float, step: int = DAY) -> Curve:
    return Curve("one", "a", [(number * step, value) for number, value in enumerate(values)])


def test_a_curve_lies_where_its_values_are() -> None:
    """The highest value is above the lowest, each on the level that its label names."""
    text = chart("x", "PnL", "words", [curve(0, 4, -1)])

    assert labels(text, "ys") == ["-2", "0", "2", "4"]
    assert drawn(text) == [(0, 200), (500, 0), (1000, 250)]


def test_thinning_keeps_every_peak() -> None:
    """What stands out by one point of ten thousand is still there, and so are the ends."""
    chance = random.Random(3)
    points = [(minute, chance.random()) for minute in range(10_000)]
    points[7_777] = (7_777, 50.0)
    points[3_333] = (3_333, -50.0)

    kept = thinned(points, 100)

    assert {points[7_777], points[3_333], points[0], points[-1]} <= set(kept)
    assert len(kept) <= 202 and kept == sorted(kept)


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (5.0,), (1e-8, -3e-8), (-1e12, 1e12), ()])
def test_any_range_can_be_drawn(values: tuple[float, ...]) -> None:
    """All zero, one point, next to nothing, a great deal and nothing have a picture or words."""
    text = chart("x", "PnL", "words", [curve(*values)])

    if values:
        assert all(0 <= x <= 1000 and 0 <= y <= 300 for x, y in drawn(text))
        assert 2 <= len(labels(text, "ys")) <= 8
    else:
        assert "neither result has" in text


@pytest.mark.parametrize(
    ("points", "step", "first", "most"),
    [(3, MINUTE, "00:00", 7), (8, DAY, "Jan 01", 8), (400, DAY, "Jan 01", 8), (1, DAY, "00:00", 1)],
)
def test_times_are_labeled_sparsely(points: int, step: int, first: str, most: int) -> None:
    """Minutes, a week and more than a year have a few labels each, in UTC."""
    found = labels(chart("x", "PnL", "words", [curve(*range(points), step=step)]), "xs")

    assert found[0] == first and 1 <= len(found) <= most


def test_a_time_beyond_the_calendar_is_drawn_without_a_label() -> None:
    """A result may hold any integer for a time."""
    points = [(10**30, 1.0), (10**30 + DAY, 2.0)]

    text = chart("x", "PnL", "words", [Curve("one", "a", points)])

    assert len(drawn(text)) == 2
