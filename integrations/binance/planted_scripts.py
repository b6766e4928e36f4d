"""What is planted into the acceptance week decision by decision, see `planted`."""

from typing import NamedTuple

from integrations.binance.planted import SECOND, at

DECISION = 10 * SECOND  # from one decision to the next
PLENTY = -1  # shown: enough for any position


class Step(NamedTuple):
    """What both legs quote before one decision, or the same before each of several.

    The perp's mid is `basis` above the script's level. Both legs quote this long after the decision
    (before it when negative; None: not at all) and show so many of the greater of their lots.
    """

    basis: int
    times: int = 1
    spot_at: int | None = -2 * SECOND
    perp_at: int | None = -1 * SECOND
    spot_shown: int = PLENTY
    perp_shown: int = PLENTY
    row_before: int | None = None  # the basis of another row of the perp at the same time
    spot_touch: tuple[int, int] = (-1, 1)  # bid and ask, in ticks above the level
    half_ticks: int = 0  # of the perp's mid, above the basis


class Script(NamedTuple):
    """What a symbol quotes before each decision from `start` on. Its spot stays at `level`, in
    USDT, to which the fair price goes in the hour before."""

    symbol: str
    start: int
    level: int
    steps: tuple[Step, ...]


SETTLE = Step(-200, 13)  # what entered on the basis is closed, and the cooldown passes

SCRIPTS = {  # of each symbol, in order of time
    # Each threshold met exactly, where float64 is a little off: entry at 5, exit at 1, an entry
    # 60 s after the decision that found it flat, hedge_divergence 15 above the entry, armed again
    # at 1.
    "thresholds": Script(
        "BTC",
        at(1, "03:00:05"),
        107_000,
        (
            SETTLE,
            Step(490, 3),
            Step(500),
            Step(490, 6),
            Step(110, 2),
            Step(100),
            Step(800, 9),
            Step(400, 3),
            Step(2250, 3),
            Step(2300),
            Step(600, 12),
            Step(110, 2),
            Step(600, 3),
            Step(100),
            Step(600, 12),
            Step(0, 4),
        ),
    ),
    # A quote exactly 30 s old counts, one 1 us older does not. Of two rows at the same time the
    # later one counts. A quote at the very time of a decision counts, one 1 us later does not.
    "times": Script(
        "BTC",
        at(1, "10:00:05"),
        107_500,
        (
            SETTLE,
            Step(450, spot_at=-1),
            Step(450, 2, spot_at=None),
            Step(600, spot_at=None),
            Step(450, spot_at=0),
            Step(450, 2, spot_at=None),
            Step(600, spot_at=None),
            Step(450, 3),
            Step(0, 10),
            Step(450, 2, row_before=600),
            Step(600, row_before=450),
            Step(450, 3),
            Step(450, row_before=0),
            Step(0, row_before=450),
            Step(0, 8),
            Step(450),
            Step(600, spot_at=1, perp_at=1),
            Step(450, 2),
            Step(600, spot_at=0, perp_at=0),
            Step(450, 2),
            Step(0, 3, spot_at=0, perp_at=0),
        ),
    ),
    # Nothing shown, and reverted before anything was bought: an exit without a fill. Then the entry
    # waits, also for more than 16 lots, which are worth less than 40 USDT, and takes what is shown,
    # odd lots at odd prices, so that fees end in a tie. The exit waits, too, and leaves no rest
    # that is too small to be sold alone.
    "touches": Script(
        "ETH",
        at(1, "12:00:05"),
        2_450,
        (
            SETTLE,
            Step(600, 2, perp_shown=0),
            Step(50),
            Step(400, 7),
            Step(600, 2, perp_shown=0),
            Step(604, spot_shown=0),
            Step(604, perp_shown=16),
            Step(604, perp_shown=101),
            Step(608, perp_shown=103),
            Step(612, spot_shown=105),
            Step(620, spot_shown=105),
            Step(50, 2, perp_shown=0),
            Step(54, perp_shown=413),
            Step(58, 3, spot_shown=2),
            Step(58, 3),
        ),
    ),
    # Exited 65 s before a settlement: it is not paid. Rich again inside the guard only.
    "exit before a settlement": Script(
        "ETH",
        at(2, "07:53:05"),
        2_430,
        (SETTLE, Step(600), Step(400, 20), Step(50), Step(700), Step(0, 2), Step(700, 9), Step(0)),
    ),
    # Entered 65 s before a settlement: it is paid. Reverted inside the guard only, with quotes at
    # the very time of the settlement, two of the perp. Entered at 60 bp and filled at 2 bp, it has
    # then lost 0.602 % without what the settlement brought and 0.598 % with it (no exit), and at
    # last 0.603 % with it (stop_loss).
    "entry before a settlement": Script(
        "BTC",
        at(2, "07:56:05"),
        106_900,
        (
            SETTLE,
            Step(450, 3),
            Step(6000, perp_shown=0),
            Step(200),
            Step(0, 6),
            Step(0, spot_at=-5 * SECOND, perp_at=-5 * SECOND, row_before=50),
            Step(0, 5),
            Step(6216, 2),
            Step(6260),
            Step(300, 3),
            Step(0, 3),
        ),
    ),
    # 70 bp inside 10 s: stop_loss, ahead of hedge_divergence; disarmed and armed again. Then an
    # entry at 60 bp, where nothing is shown, that fills at 2 bp: at 61.9 bp it has lost, of the ask
    # of 2430, half a cent less than 0.6 % (no exit) and then exactly that (stop_loss).
    "jump": Script(
        "ETH",
        at(2, "11:00:05"),
        2_430,
        (
            SETTLE,
            Step(600),
            Step(400, 6),
            Step(7400, 2),
            Step(600, 12),
            Step(50),
            Step(6000, perp_shown=0),
            Step(200, 2, spot_touch=(-2, 0)),
            Step(6190, 2, spot_touch=(-2, 0), half_ticks=1),
            Step(6190, 1, spot_touch=(-2, 0), half_ticks=2),
            Step(300, 10),
            Step(0, 3),
        ),
    ),
    # Armed again while the exit is still selling; then armed again while it cools down.
    "armed early": Script(
        "ETH",
        at(3, "18:30:05"),
        2_400,
        (
            SETTLE,
            Step(600),
            Step(400, 3),
            Step(2300, perp_shown=4000),
            Step(50, perp_shown=1000),
            Step(300, perp_shown=4000),
            Step(300, 9),
            Step(600),
            Step(400, 3),
            Step(2300),
            Step(300),
            Step(50),
            Step(300, 4),
            Step(600, 3),
            Step(0, 8),
        ),
    ),
    # An entry of many clips, which the gap of five minutes ends after 30 s, see GAPS.
    "gap": Script(
        "BTC",
        at(5, "09:56:05"),
        107_500,
        (SETTLE, Step(450, 9), Step(600, 2, spot_at=0, perp_at=0, spot_shown=21)),
    ),
    # Held for 8 hours: basis_reverted and timeout hold at the same decision; only a timeout
    # disarms, and the basis rises without having been low again.
    "reverted or timeout": Script(
        "BTC", at(6, "01:00:05"), 107_000, (SETTLE, Step(600), Step(400, 5))
    ),
    "reverted or timeout, exit": Script(
        "BTC",
        at(6, "09:00:05"),
        107_000,
        (Step(400, 13), Step(50), Step(300, 8), Step(600), Step(0, 6)),
    ),
    # The timeout of what entered on funding, with a low basis: arming starts one decision later,
    # where the basis is higher, so the next rise finds the entry disarmed.
    "timeout of high funding": Script(
        "ETH",
        at(7, "08:01:05"),
        2_400,
        (Step(50), Step(300, 12), Step(600, 6), Step(50), Step(600, 3), Step(0, 6)),
    ),
    # Open when the last ten minutes begin: end_of_run. A part is sold at once, the rest at the last
    # decision ahead of the settlement at midnight, when the last quote has come, see GAPS.
    "end of run": Script(
        "BTC",
        at(7, "23:40:05"),
        105_000,
        (
            SETTLE,
            Step(600),
            Step(400, 46),
            Step(400, perp_shown=100),
            Step(400, 52, perp_shown=0),
            Step(400, spot_at=-6 * SECOND, perp_at=-6 * SECOND),
        ),
    ),
}
