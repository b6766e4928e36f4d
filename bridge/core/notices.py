"""What a person is told of, and how often: kinds, their limit, time of the daily one.

All times are nanoseconds since 1970, as the machine's clock has them.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

Kind = Literal["halt", "breach", "gap", "link", "restart", "audit", "summary"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
HOUR_NS: Final = 3_600 * 10**9
MINUTE_NS: Final = 60 * 10**9
DAY_NS: Final = 24 * HOUR_NS


class Memory:
    """What was sent in the last hour and what was left out since; `summary_ns`: the last summary.

    Of kinds that tell of a trouble and of its end it also keeps the last trouble that was told.

    It outlives the process: a bridge that starts again and again has one limit, not one each time.
    """

    def __init__(self) -> None:
        self.summary_ns = 0
        self._sent: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self._left_out = dict.fromkeys(KINDS, 0)
        self._troubles: dict[str, str] = dict.fromkeys(KINDS, "")

    def knows(self, kind: Kind, trouble: str | None) -> bool:
        """Return whether this very trouble was the last that was told, and not its end."""
        return bool(trouble) and self._troubles[kind] == trouble

    def admit(
        self, kind: Kind, now_ns: int, per_hour_max: int, trouble: str | None = None
    ) -> int | None:
        """Return how many were left out before one that may be sent now; None: it may not.

        `trouble`: what it tells of, empty: of the end of any. The end of one that was told may
        always be sent.
        """
        # A clock that was set back has left times behind that are still to come.
        recent = [each for each in self._sent[kind] if now_ns - HOUR_NS < each <= now_ns]
        is_due = trouble == "" and self._troubles[kind] != ""
        if len(recent) >= per_hour_max and not is_due:
            self._left_out[kind] += 1
            return None
        self._sent[kind] = [*recent, now_ns]
        if trouble is not None:
            self._troubles[kind] = trouble
        if kind == "summary":
            self.summary_ns = now_ns
        left_out, self._left_out[kind] = self._left_out[kind], 0
        return left_out

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON types."""
        return {
            "summary_ns": self.summary_ns,
            "sent": self._sent,
            "left_out": self._left_out,
            "troubles": self._troubles,
        }

    @classmethod
    def of(cls, kept: object) -> "Memory":
        """Return what `as_dict` gave; what is not of that form counts as nothing."""
        memory = cls()
        if not isinstance(kept, Mapping):
            return memory
        sent, left_out, summary_ns = (kept.get(key) for key in ("sent", "left_out", "summary_ns"))
        troubles = kept.get("troubles")
        memory.summary_ns = summary_ns if isinstance(summary_ns, int) else 0
        for kind in KINDS:
            if isinstance(sent, Mapping) and isinstance(times := sent.get(kind), list):
                memory._sent[kind] = [each for each in times if isinstance(each, int)]
            if isinstance(left_out, Mapping) and isinstance(count := left_out.get(kind), int):
                memory._left_out[kind] = count
            if isinstance(troubles, Mapping) and isinstance(trouble := troubles.get(kind), str):
                memory._troubles[kind] = trouble
        return memory


def last_time_ns(clock: str, now_ns: int) -> int:
    """Return when it was `HH:MM` UTC for the last time."""
    hours, minutes = clock.split(":")
    since_ns = (now_ns - int(hours) * HOUR_NS - int(minutes) * MINUTE_NS) % DAY_NS
    return now_ns - since_ns
