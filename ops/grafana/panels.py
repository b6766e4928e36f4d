"""What the dashboards are made of, before Grafana's own format, and how to ask for it in PromQL.

`$role`, `$__range` and `$__rate_interval` are Grafana's variables: the roles chosen above the
panels, the time shown, and four scrape intervals or more. A counter begins anew with the process:
panels show its growth, never its value.
"""

from typing import Final, Literal, NamedTuple

Queries = tuple[tuple[str, str], ...]
"""Pairs of an expression and what its series are called."""

Words = tuple[tuple[str, str], ...]
"""Pairs of a word and its color; the number of a series is the place of its word."""


class Panel(NamedTuple):
    """One panel; `unit` is Grafana's name of one, `about` a sentence for who sees it first.

    `runbook` has the titles of sections that help, `nothing` what stands there without a series.
    A number is red from `bad_from` on.
    """

    title: str
    about: str
    unit: str
    queries: Queries
    kind: Literal["lines", "timeline", "number", "name"] = "lines"
    words: Words = ()
    runbook: tuple[str, ...] = ()
    nothing: str = ""
    bad_from: float | None = None


Line = tuple[Panel, ...]
"""Panels beside one another, which share the width: a divisor of 24 of them."""


class Board(NamedTuple):
    """One dashboard, in the file `<uid>.json`: lines of panels by the title above them.

    `marks` are expressions that have a value when there is something to mark, by its name.
    """

    uid: str
    title: str
    since: str
    refresh: str
    rows: dict[str, tuple[Line, ...]]
    marks: dict[str, str]


ENTRIES: Final = "count:entries/s"
EVENTS: Final = "count:events/s"
BASIS_POINTS: Final = "suffix:bp"

STATES: Final[Words] = (
    ("ACTIVE", "green"),
    ("REDUCING", "yellow"),
    ("DISABLED", "orange"),
    ("HALTED", "red"),
)
CONNECTED: Final[Words] = (("away", "red"), ("connected", "green"))

SHOWN: Final = "In the time shown"


def own(name: str, **labels: str) -> str:
    """Return the selector of a metric of the bridge."""
    wanted = ", ".join(['role=~"$role"', *(f'{key}="{value}"' for key, value in labels.items())])
    return f"nautilus_bridge_{name}{{{wanted}}}"


def rate(name: str, *labels: str) -> str:
    """Return how much a counter grows a second, by role and these labels."""
    by = ", ".join(("role", *labels))
    return f"sum by ({by}) (rate({own(f'{name}_total')}[$__rate_interval]))"


def growth(name: str, time: str, *, by: str = "role", **labels: str) -> str:
    """Return how much a counter grew in a time, over restarts."""
    return f"sum by ({by}) (increase({own(f'{name}_total', **labels)}[{time}]))"


def times(name: str) -> Queries:
    """Return the query of how often something happened in the time shown.

    Prometheus extrapolates to the ends of the time; what is counted is whole.
    """
    return ((f"round({growth(name, '$__range')})", "{{role}}"),)


def gauge(name: str, legend: str = "{{role}}") -> tuple[str, str]:
    """Return the query of a gauge."""
    return own(name), legend


def rates(name: str, *labels: str) -> Queries:
    """Return the query of a counter by labels."""
    return ((rate(name, *labels), _legend(*labels)),)


def process(name: str) -> str:
    """Return the selector of a metric of the process."""
    return f'process_{name}{{job="nautilus-bridge", role=~"$role"}}'


def latencies(name: str, *labels: str) -> Queries:
    """Return the queries of the median and the 99th percentile of a histogram."""
    by = ", ".join(("role", "le", *labels))
    buckets = f"sum by ({by}) (rate({own(f'{name}_bucket')}[$__rate_interval]))"
    return tuple(
        [
            (f"histogram_quantile({share}, {buckets})", f"{_legend(*labels)} {said}")
            for share, said in ((0.5, "median"), (0.99, "99th percentile"))
        ]
    )


def state() -> str:
    """Return the place of the state in force in `STATES`."""
    places = [f"{i} * {own('control_state', state=name)}" for i, (name, _) in enumerate(STATES)]
    return " + ".join([f"sum by (role) ({place})" for place in places])


def slippage(time: str) -> str:
    """Return the dollars that were paid against the middle in a time, less those earned."""
    paid, earned = [growth("slippage_dollars", time, sign=sign) for sign in ("paid", "earned")]
    return f"({paid} - {earned})"


def _legend(*labels: str) -> str:
    return " ".join([f"{{{{{label}}}}}" for label in ("role", *labels)])


ALERTS: Final = 'ALERTS{alertname=~"NautilusBridge.*", alertstate="firing", role=~"$role"}'
UP: Final = 'up{job="nautilus-bridge", role=~"$role"}'
STARTED: Final = process("start_time_seconds")

# Grafana asks once a minute what to mark: any halt of that minute, and any process that began in it
# or up to half a minute before, the time until its first scrape.
MARKS: Final = {
    "Halts": f"max_over_time({own('control_state', state='HALTED')}[1m]) > 0",
    "Restarts": f"time() - {STARTED} < 90",
}
