"""Bugs that a port of the strategy may have, each as a change of the legacy program's text.

Every `old` text occurs exactly once in the program, or the mutant cannot be made.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from strategies.basis_carry import legacy


class Mutant(NamedTuple):
    """A bug, and a gate that catches it, at the latest over the whole week."""

    name: str
    edits: tuple[tuple[str, str], ...]
    gate: str = "fills"


def program(mutant: Mutant) -> ModuleType:
    """Return the legacy program with the bug. Raises ValueError when an edit does not apply."""
    path = Path(legacy.__file__)
    source = path.read_text()
    for old, new in mutant.edits:
        if (count := source.count(old)) != 1:
            raise ValueError(
                f"{mutant.name}: {old!r} occurs {count} times in {path.name}, not once"
            )
        source = source.replace(old, new)
    module: Any = ModuleType(legacy.__name__)
    exec(compile(source, f"{path.name} with {mutant.name}", "exec"), module.__dict__)
    # The events are made once for all mutants, so they must be of the classes it asks for.
    module.Quote, module.Funding = legacy.Quote, legacy.Funding
    return module


def one(name: str, old: str, new: str, gate: str = "fills") -> Mutant:
    return Mutant(name, ((old, new),), gate)


AHEAD = (
    (
        "        desk = Desk(instruments, params, start_ns, end_ns)\n",
        "        desk = Desk(instruments, params, start_ns, end_ns)\n"
        "        events, desk.ahead, later = list(events), {}, {}\n"
        "        for event in reversed([e for e in events if isinstance(e, Funding)]):\n"
        "            desk.ahead[event.symbol, event.ts] = later.get(event.symbol, event.rate)\n"
        "            later[event.symbol] = event.rate\n",
    ),
    (
        "pair.publish(event.rate, event.interval_hours)",
        "pair.publish(self.ahead[event.symbol, event.ts], event.interval_hours)",
    ),
)
FILL = "fee = (abs(value) * rate).quantize(MONEY)"
LEGS = "spot.quote.{}_size * spot.size_unit, perp.quote.{}_size * perp.size_unit"
ON_ENTRY, ON_EXIT = LEGS.format("ask", "bid"), LEGS.format("bid", "ask")
STOP, DIVERGED, TIMEOUT = (
    "            (STOP_LOSS, record.cost and round(gain / record.cost, DIGITS)"
    " <= -params.stop_loss_pct),\n",
    "            (HEDGE_DIVERGENCE, rise >= params.hedge_divergence_bps),\n",
    "            (TIMEOUT, ts - record.ts >= self.timeout),\n",
)
MUTANTS = (
    # Funding.
    one("the sign of funding", "(-position * mark", "(position * mark", "funding_amounts"),
    one("settlements at midnight dropped", "if position and record:",
        "if position and record and event.ts % DAY_NS:", "funding_events"),
    Mutant("the next rate is known", AHEAD),
    one("the rate is never published",
        "        pair.publish(event.rate, event.interval_hours)\n", ""),
    one("funding on the mid instead of the mark", "Decimal(repr(float(event.mark)))",
        "pair.perp.mid()", "funding_amounts"),
    one("funding annualized by the wrong interval",
        "round(rate * HOURS_A_YEAR / interval_hours, DIGITS)",
        "round(rate * HOURS_A_YEAR / 1, DIGITS)"),
    # Fees.
    one("fees of spot and perp swapped", FILL,
        'pair = self.pairs[symbol]\n        '
        'rate = (pair.perp if kind == "spot" else pair.spot).instrument.fee\n        ' + FILL,
        "fill_fees"),
    one("fees rounded half up", FILL, FILL.replace("MONEY", 'MONEY, "ROUND_HALF_UP"'), "fill_fees"),
    one("fees rounded down", FILL, FILL.replace("MONEY", 'MONEY, "ROUND_DOWN"'), "fill_fees"),
    one("fees with two decimals", FILL, FILL.replace("MONEY", 'Decimal("0.01")'), "fill_fees"),
    # Prices.
    one("fills at mid",
        '("BUY", leg.ask()) if qty > 0 else ("SELL", leg.bid())',
        '("BUY" if qty > 0 else "SELL", leg.mid())', "is_net"),
    one("buys at the bid", '("BUY", leg.ask())', '("BUY", leg.bid())'),
    one("the end is marked at the touch", "self.cash + held * self.mid()",
        "self.cash + held * (self.bid() if held > 0 else self.ask())", "basis_pnl_by_day"),
    # The clock.
    one("decides a second late", "start + params.offset_ns", "start + params.offset_ns + 10**9"),
    one("decides at every other time", "self.next_decision += self.interval",
        "self.next_decision += 2 * self.interval", "counts"),
    Mutant("quotes 50 ms after the decision count",
           ((") < ts:", ") < ts - 50_000_000:"),
            ("return min(now, self.end - 1)", "return min(now + 50_000_000, self.end - 1)"))),
    one("fills 50 ms later", "fill = Fill(ts,", "fill = Fill(ts + 50_000_000,"),
    Mutant("decides before the events of its time",
           ((") < ts:", ") < min(ts + 1, self.end):"),
            ("return min(now, self.end - 1)", "return min(now - 1, self.end - 1)"))),
    # Guards.
    one("no stale guard", "> self.max_age", "> 2**62"),
    one("quotes are stale at the limit", "> self.max_age", ">= self.max_age"),
    one("only the spot can be stale", "min(pair.spot.quote.ts, pair.perp.quote.ts)",
        "pair.spot.quote.ts"),
    one("no funding guard", "< self.guard", "< 0"),
    one("guards after funding only", "min(since_funding, pair.interval_ns - since_funding)",
        "since_funding", "counts"),
    # Entries.
    one("enters above the threshold only", "pair.basis >= params.entry_basis_bps",
        "pair.basis > params.entry_basis_bps"),
    one("the signal is not rounded", "pair.basis = round(pair.exact_basis, DIGITS)",
        "pair.basis = pair.exact_basis"),
    one("never enters on funding", "HIGH_FUNDING in pair.armed and ", "False and "),
    one("enters in the last minutes", " or ts >= self.exit_only_from", ""),
    one("no cooldown", "ts - pair.flat_ts < self.cooldown", "False"),
    one("cools down a decision longer", "ts - pair.flat_ts < self.cooldown",
        "ts - pair.flat_ts <= self.cooldown"),
    one("cools down from the exit on", "pair.record, pair.flat_ts = None, ts",
        "pair.record, pair.flat_ts = None, record.exit_ts"),
    one("need not be armed again", "pair.armed.clear()", "pass"),
    one("every exit disarms", "if reason in DISARMING:", "if True:"),
    one("a timeout does not disarm", "{STOP_LOSS, HEDGE_DIVERGENCE, TIMEOUT}",
        "{STOP_LOSS, HEDGE_DIVERGENCE}"),
    one("armed when flat only", "        self._arm(pair)\n",
        "        if not pair.record:\n            self._arm(pair)\n"),
    # Exits.
    one("no hysteresis", "rich and pair.basis <= params.exit_basis_bps",
        "rich and pair.basis < params.entry_basis_bps"),
    one("exits below the threshold only", "rich and pair.basis <= params.exit_basis_bps",
        "rich and pair.basis < params.exit_basis_bps"),
    one("no stop loss", STOP, ""),
    one("no hedge divergence", DIVERGED, ""),
    one("diverges above the threshold only", "rise >= params", "rise > params"),
    one("no timeout", TIMEOUT, ""),
    one("times out after its time only", "record.ts >= self.timeout", "record.ts > self.timeout"),
    one("no exit at the end", "(END_OF_RUN, ts >= self.exit_only_from)", "(END_OF_RUN, False)",
        "positions"),
    Mutant("the stop loss comes last", ((STOP, ""), (TIMEOUT, TIMEOUT + STOP)), "counts"),
    Mutant("hedge divergence before stop loss", ((STOP, ""), (DIVERGED, DIVERGED + STOP)),
           "counts"),
    Mutant("timeout first", ((TIMEOUT, ""), (STOP, TIMEOUT + STOP))),
    one("the stop loss counts fees", "held + record.cash + record.funding",
        "held + record.cash + record.funding - record.fees"),
    one("the stop loss leaves out funding", "held + record.cash + record.funding",
        "held + record.cash"),
    one("an exit is given up when its reason is gone", "elif not pair.record.exit_reason:\n",
        'else:\n            pair.record.exit_reason = ""\n'),
    # Sizes.
    one("the smaller lot", "        if self.lot % small:",
        "        small, self.lot = self.lot, small\n        if small % self.lot:"),
    one("sized at mid", "self._notional() / ask,", "self._notional() / pair.spot.mid(),"),
    one("other positions take nothing", "for pair in self.pairs.values() if pair.record), ZERO)",
        "for pair in ()), ZERO)"),
    one("both legs count as open", "free = params.size_fraction",
        "taken *= 2\n        free = params.size_fraction"),
    one("a position that exits takes nothing", "for pair in self.pairs.values() if pair.record)",
        "for pair in self.pairs.values() if pair.record and not pair.record.exit_reason)"),
    one("takes all that is free", "free / 2", "free"),
    one("symbols decide backwards", "for symbol in first + sorted(symbols.difference(first)):",
        "for symbol in reversed(first):"),
    # Orders.
    one("only the spot's touch limits an entry", f"min({ON_ENTRY})",
        "spot.quote.ask_size * spot.size_unit"),
    one("an entry looks at the other side's size", f"min({ON_ENTRY})",
        "min(spot.quote.bid_size * spot.size_unit, perp.quote.ask_size * perp.size_unit)"),
    one("sizes shown are ignored", "clip = min(left, _floor(shown, pair.lot))", "clip = left"),
    one("small clips are sent", "if record.complete or clip * px < pair.entry_min",
        "if record.complete or not clip"),
    one("a leftover is not kept large enough",
        "if 0 < (spot.position - clip) * bid < least:", "if False:"),
    one("small exits are sent", "if clip * bid >= least:", "if clip:"),
    one("the perp is not bought back",
        "            self._trade(perp, record, ts, self._perp_target(pair, spot.position)"
        " - perp.position)\n", "", "positions"),
    one("the perp is not sold", "            self._trade(perp, record, ts, -hedge)\n", ""),
)  # fmt: skip
# The week has no entry whose rest, too small to be bought, is worth more later.
ON_A_RISE = (
    one("an entry is never complete", "record.complete = left * px < pair.entry_min",
        "record.complete = not left"),
    one("an entry begins again", "        if record.complete:\n            return\n", ""),
)  # fmt: skip
