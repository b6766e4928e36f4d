"""The soak: what is compared, and what breaks a bar. The soak itself takes minutes."""

from typing import Any

import pytest

from tests.bench.soak import ENDS_SECONDS, LOST, MIB, RATES, Sample, judged, main, measured

GOOD: dict[str, Any] = {
    "growth_mib": 10.0, "more_files": 0, "agree": True, "problems": [], "exit": 0,
}  # fmt: skip


def samples(*, mib_per_second: float = 0.0, files: int = 30) -> list[Sample]:
    """Return a minute of samples; `files` are open at its end, 30 at its beginning."""
    found = []
    for second in range(60):
        counts = {"ts_ns": second * 1e9} | dict.fromkeys(LOST, 1.0)
        counts |= dict(zip(RATES.values(), (5_000.0 * second, 50.0 * second), strict=True))
        rss_bytes = round((400 + mib_per_second * second) * MIB)
        found.append(Sample(rss_bytes, files if second > 30 else 30, counts))
    return found


def test_growth_and_rates() -> None:
    """Growth is from the lowest of the medians to the last, rates are over the whole time."""
    found = measured(samples(mib_per_second=0.1, files=33))

    assert found["growth_mib"] == pytest.approx(0.1 * (60 - ENDS_SECONDS), abs=0.01)
    assert found["late_growth_mib"] == pytest.approx(0.1 * ENDS_SECONDS, abs=0.01)
    assert (found["more_files"], found["files"]) == (3, 33)
    assert (found["market_per_s"], found["exec_per_s"]) == (5_000, 50)
    assert found["market_lost"] == 2


def test_a_release_hides_no_growth() -> None:
    """What was given back in the middle counts from there."""
    before, after = samples()[:20], samples(mib_per_second=0.1)[20:]
    given_back = [each._replace(rss_bytes=each.rss_bytes - 50 * MIB) for each in after]

    assert measured(before + given_back)["growth_mib"] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"growth_mib": 10.01}, ["it grew by 10.01 MiB"]),
        ({"more_files": 1}, ["it holds 1 files more"]),
        ({"agree": False, "problems": ["a", "b"]}, ["entries were lost: a; b"]),
        ({"exit": 74}, ["it ended with 74"]),
    ],
)
def test_what_breaks_a_bar(change: dict[str, Any], words: list[str]) -> None:
    """Each of growth, files, losses and the exit code is told in words."""
    assert judged(GOOD | change) == words


def test_a_soak_that_is_too_short(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be compared with itself is a usage error: exit 2."""
    with pytest.raises(SystemExit) as ended:
        main(["--minutes", "0.5"])

    assert ended.value.code == 2
    assert "at least 0.8" in capsys.readouterr().err
