"""acceptance/report*.py: what a comparison tells a reader, and its renderings.

The committed snapshots are written anew by `SNAPSHOTS=write python -m pytest THIS_FILE`.
"""

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from acceptance import report_html, report_text, tolerance
from acceptance.compare import Comparison, compare
from acceptance.record import Record
from acceptance.report import Report, report
from acceptance.verdict import Gate
from strategies.basis_carry import legacy
from tests.acceptance import comparisons
from tests.acceptance.rigs import MINUTE, START, result

SNAPSHOTS = Path(__file__).with_name("snapshots")
EVIL = '<script>alert("x")</script>|`*_[a](http://b)\x1b[31m\u202e'
VOID = {"meta", "line", "polyline"}


class Slower:
    """The legacy program with a cooldown of its own."""

    @staticmethod
    def run(events: Any, table: Any, *, params: Any, **more: Any) -> legacy.Result:
        """Run it."""
        slower = replace(params, cooldown_seconds=Decimal(120))
        return legacy.run(events, table, params=slower, **more)


def judged(a: Record, b: Record) -> Comparison:
    return compare(a, b, tolerance.load())


def drifting() -> Comparison:
    """Return what a real fault comes to: a cooldown of two minutes instead of none."""
    return judged(replace(result(Slower), program="nautilus"), result())


def html(comparison: Comparison) -> str:
    return report_html.page(report(comparison), comparison.a, comparison.b)


FORMS: dict[str, Callable[[Comparison], str]] = {
    "txt": lambda comparison: report_text.terminal(report(comparison)),
    "md": lambda comparison: report_text.markdown(report(comparison)),
    "html": html,
    "json": lambda comparison: json.dumps(report(comparison).as_dict(), indent=1) + "\n",
}


@pytest.mark.parametrize("name", ["passing", "failing", "unjudged"])
@pytest.mark.parametrize("form", FORMS)
def test_the_report_is_what_it_was(form: str, name: str) -> None:
    """Every rendering of a pass, of a fail and of neither is the committed one, to the byte."""
    path = SNAPSHOTS / f"{name}.{form}"
    text = FORMS[form](getattr(comparisons, name))
    if os.environ.get("SNAPSHOTS") == "write":
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    assert text == path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a page consists of; AssertionError where its tags are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", ["passing", "failing", "unjudged"])
def test_the_page_needs_nothing_but_itself(name: str) -> None:
    """No script, no link, nothing to fetch; every tag is closed where it was opened."""
    text = html(getattr(comparisons, name))
    page = Page(text)

    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert not {"src", "href", "srcset", "onclick"} & {name for name, _ in page.attributes}
    assert not any(word in text for word in ("http:", "https:", "url(", "@import"))


def test_the_page_can_be_read_by_everyone() -> None:
    """It has a language, a phone's width, two color schemes, and words for each picture."""
    text = html(comparisons.passing)
    page = Page(text)

    assert {("lang", "en"), ("name", "viewport")} <= set(page.attributes)
    assert "prefers-color-scheme:dark" in text
    ids = {value for name, value in page.attributes if name == "id"}
    named = [
        value.split() for name, value in page.attributes if name == "aria-labelledby" and value
    ]
    assert page.tags.count("svg") == len(named) == 2
    assert all(set(each) <= ids for each in named)


@pytest.mark.parametrize("form", FORMS)
def test_a_name_cannot_pose_as_markup(form: str) -> None:
    """What a user's file says is shown as text: no tag, no table cell, no terminal command."""
    one = comparisons.failing
    assert one.divergence is not None
    fill = replace(one.divergence.around_a[0], symbol=EVIL, reason=EVIL)
    comparison = replace(
        one,
        a=replace(one.a, program=EVIL, strategy=EVIL),
        gates=(*one.gates, Gate(EVIL, "strict", EVIL, EVIL, 1.0, 0.0, False, EVIL)),
        divergence=replace(one.divergence, symbol=EVIL, why=EVIL, a=fill, around_a=(fill,)),
    )

    text = FORMS[form](comparison)

    if form == "html":
        assert EVIL.splitlines()[0] in Page(text).text.replace("\r", "")
    if form in ("html", "md"):
        assert "<script" not in text
    if form in ("txt", "md"):
        assert "\x1b" not in text and "\u202e" not in text
    if form == "md":
        rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {4, 8, 9}
        assert "[a](" not in text


def test_a_failed_gate_stands_alone_and_first() -> None:
    """A gate that failed has a row for each scope with both values; those that passed share one."""
    told = report(drifting())
    lines = report_text.terminal(told).splitlines()
    rows = lines[lines.index("Gates") + 2 :]
    rows = rows[: rows.index("")]

    failed = [row for row in rows if "FAIL" in row]
    assert rows[: len(failed)] == failed
    assert len(failed) == sum(gate.passed is False for gate in told.gates) > 0
    assert sum(" funding_events " in row for row in rows) == 1


def test_the_first_divergent_fill_is_shown_with_its_cause() -> None:
    """Both sides and the fills around stand under the cause class."""
    comparison = drifting()
    assert comparison.divergence is not None

    text = report_text.terminal(report(comparison))

    assert f"cause: {comparison.divergence.cause}; {comparison.divergence.symbol}" in text
    marked = [line for line in text.splitlines() if line.startswith("  >  ")]
    assert [line.split()[1] for line in marked] == ["A", "B"]


def test_differences_are_exact_and_a_less_b() -> None:
    """Amounts are rounded to cents, what lies between them is not."""
    one = comparisons.passing
    assert one.a.totals is not None and one.a.equity is not None
    more = Decimal("0.00000004")
    totals = {
        name: replace(row, funding=row.funding + more, net=row.net + more)
        for name, row in one.a.totals.items()
    }
    equity = tuple((ts, pnl + more) for ts, pnl in one.a.equity)
    told = report(replace(one, a=replace(one.a, totals=totals, equity=equity)))

    assert {each.difference for each in told.money if each.part in ("net", "funding")} == {more}
    assert told.deviation is not None and told.deviation.difference == more
    assert "0.00000004" in report_text.terminal(told)


def note(**changes: Any) -> tuple[str, ...]:
    return report(judged(replace(result(), **changes), replace(result(), **changes))).notes


def test_the_loss_by_construction_is_said_where_it_is_one() -> None:
    """The note says fees and capture of the run at hand; without them, or without a loss, none."""
    base = result()
    assert base.params is not None and base.instruments is not None
    cheap = tuple(replace(row, fee=Decimal("0.00001")) for row in base.instruments)

    assert "of 10 and 5 bp a round trip costs 30 bp against about 4 bp" in note()[0]
    assert "loses by construction" in note()[0]
    assert note(instruments=cheap) == note(params=None) == note(instruments=None) == ()
    assert note(params=base.params | {"entry_basis_bps": "31", "exit_basis_bps": "1"}) == ()
    assert note(params=base.params | {"entry_basis_bps": "much"}) == ()


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_cannot_be_judged_has_no_pnl(form: str) -> None:
    """Why it cannot be judged is said, and no amount of it is shown."""
    text = FORMS[form](comparisons.unjudged)

    assert "ran on mock data" in text
    assert not any(word in text for word in ("20.25", "-20.875", "PnL", "polyline points", "30.5"))


def test_a_week_fits_into_a_megabyte() -> None:
    """10,081 points of each curve make a page of less than a tenth of that."""
    chance = random.Random(6)
    pnl, points = Decimal(0), []
    for minute in range(10_081):
        pnl += Decimal(chance.randint(-10_000_000, 10_000_000)).scaleb(-6)
        points.append((START + minute * MINUTE, pnl))
    week = replace(result(), equity=tuple(points))

    assert len(html(judged(week, week))) < 100_000


def test_a_result_without_a_curve_is_reported_all_the_same() -> None:
    """Who brings fills only gets a report of what is there."""
    bare = replace(result(), equity=None, totals=None, days=None, metrics=None, orders=None)
    told: Report = report(judged(bare, result()))

    assert told.deviation is None
    assert {each.difference for each in told.money} == {None}
    assert (
        "A - B" not in Page(html(judged(bare, bare))).text.partition("Equity")[2].split("PnL in")[0]
    )


def test_a_limit_that_was_widened_is_told_of_in_the_table() -> None:
    """A gate that passes says so in its line when its limit is wider than ours."""
    why = "wider than the limit of tolerances.toml, at most 0.05"
    gate = Gate("pnl", "contract", "total", "%", 0.06, 0.1, True, why)
    found = replace(judged(result(), result()), gates=(gate,))

    assert why in report_text.terminal(report(found))
