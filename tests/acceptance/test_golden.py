"""acceptance/golden.py: the pinned result."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from acceptance import golden
from acceptance.record import Record, RecordError
from tests.acceptance.rigs import result, with_fill, with_totals

BASE = result()


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """Return a golden file of the small result."""
    path = tmp_path / "goldens" / "small.json"
    golden.write(BASE, path)
    return path


def test_the_pinned_result_passes(pinned: Path) -> None:
    """Whatever program made it: what is pinned is what was done."""
    assert BASE.totals is not None and BASE.days is not None
    *days, (end, last) = BASE.days
    port = replace(
        with_totals(replace(BASE, program="nautilus"), "ETH", dust=None),
        days=(*days, (end, {**last, "ETH": replace(last["ETH"], dust=None)})),
    )
    for record in (BASE, port):
        gate = golden.check(record, pinned)
        assert (gate.name, gate.tier, gate.scope) == ("golden", "strict", "total")
        assert (gate.passed, gate.measured, gate.why) == (True, 0, "")


def test_any_other_result_fails_and_says_what_changed(pinned: Path) -> None:
    """The parts that changed are named, and of values what they were and are."""
    fills = golden.check(with_fill(BASE, 5, reason="other"), pinned)
    count = golden.check(replace(BASE, run=replace(BASE.run, counts={"exits": 2})), pinned)
    data = golden.check(replace(BASE, data=replace(BASE.data, sha256="1" * 64)), pinned)

    assert (fills.passed, fills.measured) == (False, 1)
    assert fills.why.startswith("changed: fills; if that is meant: `python -m acceptance golden")
    assert count.why.startswith("changed: run; run.counts.decisions was 216, is None; ")
    assert "changed: data; data.sha256 was 000" in data.why


def test_a_golden_is_small(pinned: Path) -> None:
    """It has hashes for the long parts, so its size does not grow with the run."""
    assert pinned.stat().st_size < 6_000


def test_without_a_golden_nothing_is_judged(tmp_path: Path) -> None:
    """A missing file is no pass; the gate says how to make one."""
    gate = golden.check(BASE, tmp_path / "none.json")

    assert gate.passed is None and gate.measured is None
    assert "none.json does not exist; pin a result with" in gate.why


def test_a_fast_result_is_neither_pinned_nor_judged(tmp_path: Path, pinned: Path) -> None:
    """It has no fills to compare."""
    fast = result(mode="fast")

    assert golden.check(fast, pinned).passed is None
    with pytest.raises(RecordError, match="only a full result can be pinned"):
        golden.write(fast, tmp_path / "fast.json")


NO_EVIDENCE = [
    (replace(BASE, run=replace(BASE.run, denied=7)), "had 7 denied orders"),
    (replace(BASE, mock=True), "ran on mock data"),
    (with_totals(BASE, "ETH", net=Decimal("1.50")), "contradicts itself: totals.ETH: net is 1.5"),
]


@pytest.mark.parametrize(("bad", "reason"), NO_EVIDENCE, ids=[each for _, each in NO_EVIDENCE])
def test_what_cannot_be_judged_is_neither_pinned_nor_passed(
    tmp_path: Path, bad: Record, reason: str
) -> None:
    """Not even by a golden that has the same values."""
    path = tmp_path / "bad.json"
    with pytest.raises(RecordError, match=f"cannot be judged is not pinned: it {reason}"):
        golden.write(bad, path)
    assert not path.exists()

    path.write_text(json.dumps(golden.summary(bad)))
    gate = golden.check(bad, path)
    assert gate.passed is None and gate.why.startswith(f"the result {reason}")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not JSON"), (100_000 * "[", "not JSON"), ("null", "not a golden"), ("[]", "not a go")],
)
def test_a_broken_golden_is_an_error(pinned: Path, text: str, said: str) -> None:
    """It is named, and not taken for a difference."""
    pinned.write_text(text)

    with pytest.raises(RecordError, match=rf"small\.json: {said}"):
        golden.check(BASE, pinned)


def test_pinning_again_takes_the_new_result(pinned: Path) -> None:
    """After a deliberate write the new result passes and the old one fails."""
    new = with_fill(BASE, 5, reason="other")
    golden.write(new, pinned)

    assert (golden.check(new, pinned).passed, golden.check(BASE, pinned).passed) == (True, False)
