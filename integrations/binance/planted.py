"""What is planted into the acceptance week: the cases that an ordinary week may not show.

All stand at fixed times. `SHAPES` bend the basis of a symbol for minutes or hours while its quotes
come as ever. `planted_scripts` says, decision by decision, what both legs of a symbol quote. `GAPS`
take quotes away. Times are in us from the start of the week, a basis is in hundredths of a basis
point. The strategy that these cases try decides every 10 s, at :05, :15 and so on; it enters at a
basis of 500 and exits at 100.
"""

from typing import NamedTuple

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def at(day: int, clock: str) -> int:
    """Return the time of a day in July 2025, in us from the start of the week."""
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return (day - 1) * DAY + hours * HOUR + minutes * MINUTE + seconds * SECOND


class Shape(NamedTuple):
    """A basis in straight lines from point to point, each a time after `start` and a basis."""

    symbol: str
    start: int
    points: tuple[tuple[int, int], ...]


class Gap(NamedTuple):
    """From `start` to before `end` these instruments, each a symbol and a leg, are out."""

    start: int
    end: int
    instruments: frozenset[tuple[str, str]]


class Move(NamedTuple):
    """The fair prices of both legs go away by `distance` in `duration`, and stay there."""

    symbol: str
    start: int
    duration: int
    distance: int


SHAPES = {
    # 4 bp until the timeout after 8 hours, over a settlement. The rise after it finds the entry
    # disarmed, the one after that, behind half a bp below zero, armed.
    "timeout": Shape(
        "BTC",
        at(2, "17:00:00"),
        (
            (0, -100),
            (3 * MINUTE, -100),
            (4 * MINUTE, 700),
            (7 * MINUTE, 700),
            (9 * MINUTE, 400),
            (8 * HOUR + 20 * MINUTE, 400),
            (8 * HOUR + 21 * MINUTE, 700),
            (8 * HOUR + 30 * MINUTE, 700),
            (8 * HOUR + 31 * MINUTE, -50),
            (8 * HOUR + 34 * MINUTE, -50),
            (8 * HOUR + 35 * MINUTE, 700),
            (8 * HOUR + 38 * MINUTE, 400),
        ),
    ),
    # A drift of 24 bp after an entry: hedge_divergence; disarmed and armed again as above.
    "drift": Shape(
        "SOL",
        at(3, "03:00:00"),
        (
            (0, -200),
            (4 * MINUTE, -200),
            (5 * MINUTE, 700),
            (8 * MINUTE, 700),
            (38 * MINUTE, 3100),
            (45 * MINUTE, 3100),
            (55 * MINUTE, 700),
            (65 * MINUTE, 700),
            (67 * MINUTE, -100),
            (70 * MINUTE, -100),
            (71 * MINUTE, 700),
            (74 * MINUTE, 400),
        ),
    ),
    # Flat when the rate rises over the entry's threshold: high_funding as early as the guard lets.
    # Eight hours later both funding_faded and timeout hold; only a timeout disarms, and the basis
    # rises without having been low.
    "faded or timeout, entry": Shape("SOL", at(4, "07:30:00"), ((0, -200), (32 * MINUTE, -200))),
    "faded or timeout, exit": Shape(
        "SOL",
        at(4, "15:50:00"),
        (
            (0, 300),
            (14 * MINUTE, 300),
            (15 * MINUTE, 700),
            (17 * MINUTE, 700),
            (20 * MINUTE, 400),
        ),
    ),
    # Open at the lowest rate of the week, -0.00015145: the short pays.
    "negative rate": Shape(
        "SOL",
        at(4, "23:35:00"),
        ((0, -200), (4 * MINUTE, -200), (5 * MINUTE, 700), (9 * MINUTE, 400), (35 * MINUTE, 400)),
    ),
    # Open while the perp quotes nothing and the spot goes 60 bp away, see GAPS and MOVES.
    "outage": Shape(
        "ETH",
        at(5, "13:40:00"),
        ((0, -200), (4 * MINUTE, -200), (5 * MINUTE, 700), (9 * MINUTE, 400), (45 * MINUTE, 400)),
    ),
    # Held between the two scripts of the same name.
    "reverted or timeout": Shape("BTC", at(6, "01:00:00"), ((0, 400), (8 * HOUR, 400))),
    # Open at the end, where the perp shows nothing: a position is left, see SHOWS_NOTHING.
    "left at the end": Shape(
        "SOL",
        at(7, "23:15:00"),
        ((0, -200), (4 * MINUTE, -200), (5 * MINUTE, 700), (15 * MINUTE, 400), (45 * MINUTE, 400)),
    ),
    # Rich from the first second of the last ten minutes on: no entry any more.
    "too late": Shape(
        "ETH",
        at(7, "23:40:00"),
        ((0, -100), (10 * MINUTE, -100), (10 * MINUTE + SECOND, 700), (20 * MINUTE, 700)),
    ),
}

EVERYTHING = frozenset(
    (symbol, leg) for symbol in ("BTC", "ETH", "SOL") for leg in ("spot", "perp")
)
GAPS = (
    # All quotes are out for five minutes, in the middle of an entry.
    Gap(at(5, "10:00:00"), at(5, "10:05:00"), EVERYTHING),
    # The perp's are out for ten; soon the spot is 60 bp below where the perp's last quote was.
    Gap(at(5, "14:00:00"), at(5, "14:10:00"), frozenset({("ETH", "perp")})),
    # No more quotes, but one more decision: those from 23:59:05 on are too near to a settlement.
    Gap(at(7, "23:58:50"), at(8, "00:00:00"), EVERYTHING),
)
MOVES = (Move("ETH", at(5, "14:00:40"), 20 * SECOND, -6000),)
# Both sides show nothing: what is open then cannot be closed.
SHOWS_NOTHING = Gap(at(7, "23:49:00"), at(8, "00:00:00"), frozenset({("SOL", "perp")}))
