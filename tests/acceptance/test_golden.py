"""acceptance/golden.py: the pinned result."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from acceptance import golden
from acceptance.record import RecordError
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
    port = with_totals(replace(BASE, program="nautilus"), "ETH", dust=None)
    for record in (BASE, port):
        gate = golden.check(record, pinned)
        assert (gate.name, gate.tier, gate.scope) == ("golden", "strict", "total")
        assert (gate.passed, gate.measured, gate.why) == (True, 0, "")


def test_any_other_result_fails_and_says_what_changed(pinned: Path) -> None:
    """The parts that changed are named, and of values what they were and are."""
    fills = golden.check(with_fill(BASE, 5, reason="other"), pinned)
    net = golden.check(with_totals(BASE, "ETH", net=Decimal("1.50")), pinned)
    data = golden.check(replace(BASE, data=replace(BASE.data, sha256="1" * 64)), pinned)

    assert (fills.passed, fills.measured) == (False, 1)
    assert fills.why.startswith("changed: fills; if that is meant: `python -m acceptance golden")
    assert net.why.startswith("changed: totals; totals.ETH.net was -195.42956823, is 1.5; ")
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


def test_a_broken_golden_is_an_error(pinned: Path) -> None:
    """It is named, and not taken for a difference."""
    pinned.write_text("{")

    with pytest.raises(RecordError, match=r"small\.json: not JSON"):
        golden.check(BASE, pinned)


def test_pinning_again_takes_the_new_result(pinned: Path) -> None:
    """After a deliberate write the new result passes and the old one fails."""
    new = with_fill(BASE, 5, reason="other")
    golden.write(new, pinned)

    assert (golden.check(new, pinned).passed, golden.check(BASE, pinned).passed) == (True, False)
