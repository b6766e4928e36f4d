"""Is a result evidence, for or against a program? Not if it contradicts itself or is a part."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal, localcontext
from itertools import chain, pairwise, zip_longest

from acceptance import metrics
from acceptance.measures import DAY_NS, time_text
from acceptance.record import SUMMED, summed
from acceptance.shape import EXACT, TOTAL, Fill, Metrics, Record, Totals, text_of

ZERO = Decimal(0)
SAMPLED = {"equity": (60_000_000_000, "minute"), "days": (DAY_NS, "UTC day")}
METRIC_TOLERANCE = 1e-9  # relative; of a user's file, whose metrics may be rounded otherwise


def unjudgeable(record: Record) -> list[str]:
    """Return why nothing can be said of this result, each as what follows its name; empty when
    something can."""
    return [*map("contradicts itself: {}".format, contradictions(record)), *_partial(record)]


def _partial(record: Record) -> Iterator[str]:
    run, data = record.run, record.data
    if record.mock:
        yield "ran on mock data"
    fills = len(record.fills) if record.fills is not None else run.fills
    total = (record.totals or {}).get(TOTAL)
    if data.events == 0 or run.events == 0 or fills == 0 or (total and total.turnover <= 0):
        yield "is empty: no events or no fills"
    if None not in (run.last_ts, data.last_ts) and run.last_ts != data.last_ts:
        ends = f"{time_text(run.last_ts or 0)}, the data go to {time_text(data.last_ts or 0)}"
        yield f"stopped early: its last event is of {ends}"
    if None not in (run.events, data.events) and run.events != data.events:
        yield f"did not process what it was fed: {run.events} of {data.events} events"
    for what in ("denied", "rejected"):
        if count := getattr(run, what):
            yield f"had {count} {what} orders: its PnL is not the strategy's"


def contradictions(record: Record) -> list[str]:
    """Return what in a result contradicts the rest of it, in words; empty when nothing does.

    Only what is stated is looked at. The parts of one number are compared exactly.
    """
    with localcontext(EXACT):
        return [
            *_window(record),
            *_instruments(record),
            *_totals(record),
            *_sums(record),
            *_samples(record),
            *_counted(record),
            *_metrics(record),
        ]


def _window(record: Record) -> Iterator[str]:
    data = record.data
    if data.start_ns >= data.end_ns:
        yield f"data.end_ns {data.end_ns} is not after data.start_ns {data.start_ns}"
    if not data.symbols or len(set(data.symbols)) < len(data.symbols) or TOTAL in data.symbols:
        yield f"data.symbols are {list(data.symbols)}: expected one or more, each once"
    for name, last_ts in (("data", data.last_ts), ("run", record.run.last_ts)):
        if last_ts is not None and not data.start_ns <= last_ts < data.end_ns:
            yield f"{name}.last_ts {last_ts} is outside of the run"
    for name in ("orders", "fills", "funding"):
        rows = getattr(record, name) or ()
        for row in rows:
            if row.symbol not in data.symbols:
                yield f"{name}: {row.symbol} at {row.ts} is not in data.symbols"
                break
            if not data.start_ns <= row.ts <= data.end_ns:
                yield f"{name}: ts {row.ts} is outside of the run"
                break
        for row, later in pairwise(rows):
            if later.ts < row.ts:
                yield f"{name}: ts {later.ts} goes back in time"
                break


def _instruments(record: Record) -> Iterator[str]:
    """Yield which instruments are there twice, or are traded and lack; and second settlements."""
    if record.instruments is not None:
        places = Counter((row.symbol, row.leg) for row in record.instruments)
        ids = Counter(row.id for row in record.instruments)
        traded = {(fill.symbol, fill.leg) for fill in record.fills or ()}
        if not places:
            yield "instruments: there is none"
        for symbol, leg in sorted(traded - places.keys()):
            yield f"instruments: {symbol} {leg}, which has fills, is not there"
        for name, count in [*((" ".join(place), n) for place, n in places.items()), *ids.items()]:
            if count > 1:
                yield f"instruments: {name} is there {count} times"
    settled = Counter((event.ts, event.symbol) for event in record.funding or ())
    for (ts, symbol), count in settled.items():
        if count > 1:
            yield f"funding: {symbol} is settled {count} times at {time_text(ts)}"


def _totals(record: Record) -> Iterator[str]:
    rows = [("totals", record.totals)] if record.totals is not None else []
    rows += [(f"days {ts}", day) for ts, day in record.days or ()]
    for where, totals in rows:
        expected = set(record.data.symbols) | ({TOTAL} if where == "totals" else set())
        if totals.keys() != expected:
            yield f"{where}: has {sorted(totals)}, expected {sorted(expected)}"
            continue
        for scope, row in totals.items():
            net = row.price_spot + row.price_perp + row.funding - row.fees
            if row.net != net:
                stated = text_of(row.net)
                yield f"{where}.{scope}: net is {stated}, its parts make {text_of(net)}"
    if record.totals and record.totals.keys() == {*record.data.symbols, TOTAL}:
        whole = summed({name: row for name, row in record.totals.items() if name != TOTAL})
        for name in SUMMED:
            stated, real = getattr(record.totals[TOTAL], name), getattr(whole, name)
            if stated != real:
                yield f"totals.total: {name} is {text_of(stated)}, the symbols make {text_of(real)}"


def _sums(record: Record) -> Iterator[str]:
    """Yield where the totals of a symbol are not what its fills and settlements make."""
    for symbol in record.data.symbols:
        row = (record.totals or {}).get(symbol)
        if row is None:
            continue
        made: dict[str, Decimal] = {}
        if record.fills is not None:
            made |= _of_fills([fill for fill in record.fills if fill.symbol == symbol], row)
        if record.funding is not None:
            amounts = (event.amount for event in record.funding if event.symbol == symbol)
            made["funding"] = sum(amounts, ZERO)
        for name, real in made.items():
            stated = getattr(row, name)
            if stated is not None and stated != real:
                source = "funding events" if name == "funding" else "fills"
                yield f"totals.{symbol}: {name} is {text_of(stated)}, {source} make {text_of(real)}"


def _of_fills(fills: list[Fill], stated: Totals) -> dict[str, Decimal]:
    """Return the totals that fills alone determine; prices only of a leg that ends flat."""
    made = {
        "fees": sum((fill.fee for fill in fills), ZERO),
        "turnover": sum((fill.px * fill.qty for fill in fills), ZERO),
    }
    for leg in ("spot", "perp"):
        signed = [(f.qty if f.side == "BUY" else -f.qty, f.px) for f in fills if f.leg == leg]
        made[f"{leg}_position"] = position = sum((qty for qty, _ in signed), ZERO)
        if not position:
            made[f"price_{leg}"] = -sum((qty * px for qty, px in signed), ZERO)
    return made


def _samples(record: Record) -> Iterator[str]:
    """Yield where the curve and the days lack a sample or do not end where the totals do."""
    start, end = record.data.start_ns, record.data.end_ns
    for name, (step, unit) in SAMPLED.items():
        rows = getattr(record, name)
        if rows is None:
            continue
        found = [ts for ts, _ in rows]
        if found[:1] == [start]:  # which may lack
            del found[0]
        due = chain(range(start // step * step + step, end, step), [end])
        wrong = next((pair for pair in zip_longest(found, due) if pair[0] != pair[1]), None)
        if wrong:
            at, expected = ("none" if ts is None else time_text(ts) for ts in wrong)
            yield (
                f"{name}: has {at} where {expected} is due; expected a sample at each full {unit}"
                " and at the end"
            )
    if record.totals is None or TOTAL not in record.totals:
        return
    if record.equity and record.equity[-1][1] != record.totals[TOTAL].net:
        last, net = text_of(record.equity[-1][1]), text_of(record.totals[TOTAL].net)
        yield f"equity: ends at {last}, totals.total.net is {net}"
    if record.days:
        for symbol, row in record.days[-1][1].items():
            if row != record.totals.get(symbol):
                yield f"days: the last one of {symbol} differs from totals.{symbol}"


def _counted(record: Record) -> Iterator[str]:
    for name in ("orders", "fills"):
        rows, count = getattr(record, name), getattr(record.run, name)
        if rows is not None and count is not None and len(rows) != count:
            yield f"run.{name} is {count}, the file has {len(rows)}"
    if record.orders is None or record.fills is None:
        return
    filled: defaultdict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for order in record.orders:
        filled[order.symbol, order.leg, order.side] += order.filled
        if not 0 <= order.filled <= order.qty:
            yield f"orders: at {order.ts} {text_of(order.filled)} of {text_of(order.qty)} filled"
    for fill in record.fills:
        filled[fill.symbol, fill.leg, fill.side] -= fill.qty
    for (symbol, leg, side), rest in filled.items():
        if rest:
            yield f"orders: {symbol} {leg} {side} filled differ from the fills by {text_of(rest)}"


def measured(record: Record) -> dict[str, Metrics]:
    """Return the metrics of a result: taken from its parts as far as it has them, else as stated.

    A shortfall needs orders and fills, slippage needs fills, Sharpe and drawdown the curve.
    """
    stated = record.metrics or {}
    real = metrics.of_run(
        record.data.symbols, record.orders or (), record.fills or (), record.equity or ()
    )
    has_costs = record.orders is not None and record.fills is not None
    known = {
        "sharpe": record.equity is not None,
        "max_drawdown": record.equity is not None,
        "slippage_bps": record.fills is not None,
    }
    return {
        scope: Metrics(
            **{
                field.name: getattr(
                    row if known.get(field.name, has_costs) else stated.get(scope, Metrics()),
                    field.name,
                )
                for field in fields(Metrics)
            }
        )
        for scope, row in real.items()
    }


def _metrics(record: Record) -> Iterator[str]:
    if record.metrics is None:
        return
    if unknown := record.metrics.keys() - {*record.data.symbols, TOTAL}:
        yield f"metrics: of {', '.join(sorted(unknown))}, not in data.symbols"
    for scope, real in measured(record).items():
        for field in fields(Metrics):
            stated = getattr(record.metrics.get(scope, real), field.name)
            value = getattr(real, field.name)
            if stated is not None and (
                value is None or abs(stated - value) > METRIC_TOLERANCE * max(1, abs(value))
            ):
                yield f"metrics.{scope}: {field.name} is {stated}, its parts make {value}"
