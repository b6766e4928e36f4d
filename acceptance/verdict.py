"""What a comparison comes to: gates, the first divergent fill, one verdict."""

from dataclasses import dataclass
from typing import Final, Literal

from acceptance.shape import Fill, Record

type Tier = Literal["contract", "strict"]
type Verdict = Literal["pass", "fail", "cannot judge"]
type Cause = Literal["data", "signal", "size", "fill", "fee", "funding", "clock"]

EXIT_CODES: Final[dict[Verdict, int]] = {"pass": 0, "fail": 1, "cannot judge": 2}


@dataclass(frozen=True, slots=True)
class Gate:
    """One tolerance, applied to one scope: a symbol, or `total`.

    `measured` and `allowed` are in `unit`, and measured may be None: nothing could be measured.
    `passed` is None when the gate was not judged; `why` says why, and otherwise adds detail, such
    as the two values compared.
    """

    name: str
    tier: Tier
    scope: str
    unit: str
    measured: float | None
    allowed: float
    passed: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first fill that one program made otherwise, or not at all, and what kind of cause it has.

    `a` and `b` are the two sides of it, None where that program has no such fill; `around_a` and
    `around_b` are the fills before and after, in order, with the divergent one among them. With
    cause `funding` or `data` there may be no divergent fill at all.
    """

    cause: Cause
    ts: int
    symbol: str
    why: str
    a: Fill | None = None
    b: Fill | None = None
    around_a: tuple[Fill, ...] = ()
    around_b: tuple[Fill, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results, gate by gate. `tier` is the stricter one that was asked for; `strict` contains
    the contract's gates, too. `reasons` say what fails, or why nothing can be judged."""

    a: Record
    b: Record
    tier: Tier
    verdict: Verdict
    reasons: tuple[str, ...]
    gates: tuple[Gate, ...]
    divergence: Divergence | None = None

    @property
    def exit_code(self) -> int:
        """Return 0 for pass, 1 for fail, 2 for cannot judge."""
        return EXIT_CODES[self.verdict]
