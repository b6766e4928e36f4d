"""Bugs seeded into a copy of the legacy program: each is caught by a gate, on the week's data."""

from bisect import bisect_left
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

from acceptance import events, record, run, tolerance
from acceptance.compare import Comparison, compare
from acceptance.record import Record
from integrations.binance.dataset import Dataset
from strategies.basis_carry import legacy
from strategies.basis_carry.params import BasisCarryParams
from tests.acceptance.mutants import MUTANTS, ON_A_RISE, Mutant, program
from tests.acceptance.rigs import START as SMALL_START
from tests.acceptance.rigs import result
from tests.strategies.basis_carry_market import SECOND, show

START = date(2025, 7, 1)
WINDOWS_DAYS = (1, 4, 7)  # most bugs show on the first day
PARAMS = BasisCarryParams()
TOLERANCES = tolerance.load()

type Judge = Callable[[ModuleType, int], Comparison]


@pytest.fixture(scope="module")
def judge(week_data: Dataset) -> Judge:
    """Return `judge(program, days)`: the program against the legacy one over the first days."""
    everything = list(events.window(week_data).events())
    references: dict[int, Record] = {}

    def over(program: ModuleType, days: int) -> Record:
        window = events.window(week_data, (), START, START.replace(day=days))
        end = bisect_left(everything, window.end_ns, key=lambda event: event.ts)
        table = run.table(window)
        books: Any = program.run(
            everything[:end],
            table,
            params=PARAMS,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
        )
        return record.of_books(
            books,
            program="a mutant",
            data=run.fed(window),
            instruments=table,
            params=run.texts(PARAMS),
        )

    def judged(program: ModuleType, days: int) -> Comparison:
        if days not in references:
            references[days] = over(legacy, days)
        return compare(over(program, days), references[days], TOLERANCES)

    return judged


def failed(comparison: Comparison) -> list[str]:
    """Return the names of the gates that failed, each once, in order."""
    return list(dict.fromkeys(gate.name for gate in comparison.gates if gate.passed is False))


def test_the_program_itself_passes(judge: Judge) -> None:
    """A copy without a bug fails nothing, so what a mutant fails is the bug's."""
    copy = program(Mutant("no bug", ()))

    assert copy is not legacy
    assert all(judge(copy, days).verdict == "pass" for days in WINDOWS_DAYS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_bug_is_caught_by_a_gate(judge: Judge, mutant: Mutant) -> None:
    """The strict tier fails, at the gate that is named, and the divergence has a cause."""
    mutated = program(mutant)

    found: list[str] = []
    for days in WINDOWS_DAYS:
        comparison = judge(mutated, days)
        if mutant.gate in (found := failed(comparison)):
            break

    assert comparison.verdict == "fail" and comparison.exit_code == 1, comparison.reasons
    assert mutant.gate in found, f"caught by {', '.join(found)}"
    assert comparison.divergence is not None


@pytest.mark.parametrize("mutant", ON_A_RISE, ids=[mutant.name for mutant in ON_A_RISE])
def test_an_entry_that_is_complete_stays_so(mutant: Mutant) -> None:
    """Of 499.95 all but 0.39 is shown; that rest is worth 39 USDT, too little, and then 41."""
    market = [
        quote
        for step, (spot, perp) in enumerate(
            [("100", "100.05"), ("100", "100.05"), ("105", "105.05")]
        )
        for quote in show(
            SMALL_START + (4 + 10 * step) * SECOND,
            spot=spot,
            perp=perp,
            spread="0.02",
            spot_size="1000" if step else "499.56",
        )
    ]

    comparison = compare(result(program(mutant), events=market), result(events=market), TOLERANCES)

    assert [each.qty for each in result(events=market).fills or ()] == [Decimal("499.56")] * 2
    assert mutant.gate in failed(comparison)


def test_the_strict_tier_is_needed(judge: Judge) -> None:
    """Of three bugs that move money the contract's gates let all pass on the first day."""
    names = ("fees rounded half up", "fills 50 ms later", "small exits are sent")
    mutants = {mutant.name: mutant for mutant in MUTANTS}

    for name in names:
        comparison = judge(program(mutants[name]), 1)
        assert all(gate.passed for gate in comparison.gates if gate.tier == "contract"), name
        assert comparison.verdict == "fail", name


def test_there_are_enough_and_each_is_another() -> None:
    """No two mutants have the same text or name."""
    mutants = MUTANTS + ON_A_RISE

    assert len({mutant.name for mutant in mutants}) == len(mutants) >= 60
    assert len({mutant.edits for mutant in mutants}) == len(mutants)


def test_an_edit_that_does_not_apply_once_is_an_error() -> None:
    """A mutant whose text is gone from the program, or there twice, does not test anything."""
    for text in ("no such text", "ts"):
        with pytest.raises(ValueError, match="not once"):
            program(Mutant("stale", ((text, ""),)))
