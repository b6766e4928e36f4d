"""`make soak MINUTES=10`: the real daemon at a steady rate, and what it gathers meanwhile.

5,000 market events and about 50 execution entries a second, against a real Redis. Behind a warm-up
the process may not grow by more than 10 MiB, nor open a file that it does not close, and of what it
wrote nothing may be lost: `python -m bridge audit` compares journal, Redis, ledger and archive.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bridge.embedded_redis import find_redis_server
from bridge.exits import DONE, FAILED, UNAVAILABLE
from integrations.binance import sample
from tests.bridge.processes import ROOT, Daemon, allow, environment, eventually
from tests.servers import RedisServer

MARKET_RATE: Final = 5_000
WARM_SHARE: Final = 0.2
# What is compared are medians of so many seconds.
ENDS_SECONDS: Final = 20
TELL_SECONDS: Final = 10
GROWTH_BYTES_MAX: Final = 10 << 20
MIB: Final = 1 << 20
STRATEGY: Final = "tests.bench.soak_strategy:Soaking"
HASH: Final = "demo:metrics:nautilus_bridge"
LOST: Final = ("nautilus_bridge_market_dropped_total", "nautilus_bridge_market_conflated_total")
RATES: Final = {
    "market_per_s": "nautilus_bridge_market_published_total",
    "exec_per_s": "nautilus_bridge_exec_published_total",
}


class Sample(NamedTuple):
    """What the process holds at one moment."""

    rss_bytes: int
    files: int
    counts: dict[str, float]

    @classmethod
    def take(cls, daemon: Daemon, server: RedisServer) -> "Sample":
        """Read /proc, and the daemon's own numbers in Redis."""
        process = Path(f"/proc/{daemon.pid}")
        pages = int((process / "statm").read_text().split()[1])
        files = len(list((process / "fd").iterdir()))
        counts = {name: float(value) for name, value in server.client.hgetall(HASH).items()}
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), files, counts)


def soak(binary: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Run the daemon for so long; return what was measured."""
    dataset = folder / "dataset"
    sample.generate(dataset)
    server = RedisServer(binary, folder)
    try:
        server.start()
        allow(server.url)
        given = {
            "redis__url": server.url,
            "state__directory": str(folder / "state"),
            "replay__dataset": str(dataset),
            "replay__rate": str(MARKET_RATE),
            "limits__max_order_rate": "100000",
            "SOAK_DELAYS": str(folder / "delays"),
        }
        with Daemon(folder, "--strategy", STRATEGY, **given) as daemon:
            daemon.until_running()
            eventually(lambda: server.client.exists(HASH), "its numbers in Redis")
            samples = watched(daemon, server, seconds)
            ended = daemon.stop()
        result = measured(samples) | json.loads((folder / "delays").read_text())
        return result | {"exit": ended.code} | audited(given)
    finally:
        server.close()


def watched(daemon: Daemon, server: RedisServer, seconds: float) -> list[Sample]:
    """Return a sample a second, those of the warm-up left out; tell of it now and then."""
    samples: list[Sample] = []
    begin = time.monotonic()
    warm = WARM_SHARE * seconds
    while (elapsed := time.monotonic() - begin) < seconds:
        now = Sample.take(daemon, server)
        if elapsed >= warm:
            samples.append(now)
        if int(elapsed) % TELL_SECONDS == 0:
            state = "warming up" if elapsed < warm else "measuring"
            held = f"{now.rss_bytes / MIB:.1f} MiB, {now.files} files"
            print(f"{elapsed:5.0f} of {seconds:.0f} s  {state}  {held}", file=sys.stderr)
        time.sleep(max(0.0, begin + int(elapsed) + 1 - time.monotonic()))
    return samples


def measured(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return growth and rates behind the warm-up.

    Growth is from the lowest to the last: memory that is given back once must not hide it. The late
    growth, that of the second half, tells whether it has come to an end.
    """
    parts = list(itertools.batched(samples, ENDS_SECONDS))
    rss = [statistics.median([each.rss_bytes for each in part]) for part in parts]
    files = [statistics.median_high([each.files for each in part]) for part in parts]
    begin, end = samples[0].counts, samples[-1].counts
    seconds = (end["ts_ns"] - begin["ts_ns"]) / 1e9
    rates = {name: round((end[of] - begin[of]) / seconds, 1) for name, of in RATES.items()}
    return rates | {
        "rss_mib": round(rss[-1] / MIB, 1),
        "growth_mib": round((rss[-1] - min(rss)) / MIB, 2),
        "late_growth_mib": round((rss[-1] - rss[len(rss) // 2]) / MIB, 2),
        "files": files[-1],
        "more_files": files[-1] - files[0],
        "market_lost": sum([end[name] for name in LOST]),
    }


def audited(given: dict[str, str]) -> dict[str, Any]:
    """Return what the audit says of what the daemon has left behind."""
    words = [sys.executable, "-m", "bridge", "audit", "--json"]
    ended = subprocess.run(
        words, cwd=ROOT, env=environment(given), capture_output=True, text=True, check=False
    )
    assert ended.stdout, ended.stderr
    report = json.loads(ended.stdout)
    entries = sum([row["last"] for row in report["rows"]])
    return {"exec_entries": entries, "agree": report["agree"], "problems": report["problems"]}


def judged(result: dict[str, Any]) -> list[str]:
    """Return what is wrong, in words."""
    wrong = []
    if result["growth_mib"] * MIB > GROWTH_BYTES_MAX:
        wrong.append(f"it grew by {result['growth_mib']} MiB")
    if result["more_files"] > 0:
        wrong.append(f"it holds {result['more_files']} files more")
    if not result["agree"]:
        wrong.append(f"entries were lost: {'; '.join(result['problems']) or 'see the audit'}")
    if result["exit"] != DONE:
        wrong.append(f"it ended with {result['exit']}")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Soak, print, write the results; return the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--output", type=Path, default=Path("artifacts/soak.json"))
    options = parser.parse_args(argv)
    if options.minutes * 60 * (1 - WARM_SHARE) < 2 * ENDS_SECONDS:
        parser.error(f"--minutes: at least {2 * ENDS_SECONDS / 60 / (1 - WARM_SHARE):.1f}")
    binary = find_redis_server()
    if binary is None:
        print("make soak: no redis-server (6.2 or newer) found: ops/find-redis", file=sys.stderr)
        return UNAVAILABLE
    with tempfile.TemporaryDirectory(prefix="bridge-soak-") as folder:
        result = soak(binary, Path(folder), options.minutes * 60)
    for name, value in result.items():
        print(f"{name:<14}  {value}")
    wrong = judged(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result | {"wrong": wrong}, indent=2) + "\n")
    print(f"{options.output}: {'; '.join(wrong) or 'every bar holds'}")
    return FAILED if wrong else DONE


if __name__ == "__main__":
    sys.exit(main())
