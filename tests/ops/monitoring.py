"""A real Prometheus for tests, and what the files of ops/prometheus and ops/grafana name."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pytest

from bridge.metrics import Metrics
from tests.bridge.processes import eventually
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "ops" / "prometheus"
DASHBOARDS = sorted((ROOT / "ops" / "grafana").glob("*.json"))
UNPACK_SECONDS_MAX = 120


def promtool_or_skip() -> Path:
    """Return promtool's path; a prometheus is beside it. Skips the test, and says why."""
    command = [ROOT / "ops" / "find-promtool"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=UNPACK_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        pytest.skip(f"ops/find-promtool had none within {UNPACK_SECONDS_MAX} s")
    if done.returncode:
        why = done.stderr.partition("\n")[0]
        pytest.skip(f"{why} Run {'/'.join(command[0].parts[-2:])} to see what to install")
    return Path(done.stdout.strip())


def sampled() -> set[str]:
    """Return the name of every sample that a bridge has, its process's included."""
    metrics = Metrics()
    metrics.set_info(version="", nautilus_version="", role="")
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def recorded() -> set[str]:
    """Return the names that the recording rules make."""
    return set(re.findall(r"record: (\S+)", (RULES / "recording.yml").read_text()))


def named(text: str) -> set[str]:
    """Return the metrics of a bridge that a text names."""
    return set(re.findall(r"\b(?:nautilus_bridge|process)_\w+|\bnautilus_bridge:[\w:]+", text))


def queries(dashboard: Path) -> Iterator[tuple[str, str]]:
    """Yield the panel and the expression of each query of a dashboard."""
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


class Prometheus:
    """A Prometheus of a test's own with our rules, as a context manager.

    It scrapes each job of `targets` (`host:port` by job) every second.
    """

    def __init__(self, promtool: Path, folder: Path, targets: Mapping[str, str]) -> None:
        self._port = free_port()
        jobs = [
            {
                "job_name": job,
                "static_configs": [{"targets": [target], "labels": {"role": "demo"}}],
            }
            for job, target in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES / "recording.yml"), str(RULES / "alerts.yml")],
            "scrape_configs": jobs,
        }
        path = folder / "prometheus.json"
        path.write_text(json.dumps(config))  # JSON is YAML
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                promtool.with_name("prometheus"),
                f"--config.file={path}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def until_scraped(self, job: str, times: int) -> None:
        """Wait until a job was scraped so often."""

        def count() -> float:
            found = self.ask(f'count_over_time(up{{job="{job}"}}[5m])')
            return float(found[0]["value"][1]) if found else 0.0

        eventually(lambda: count() >= times, f"{times} scrapes of {job}")

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression comes to now; nothing while it starts.

        AssertionError when Prometheus refuses the expression.
        """
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            client.request("GET", "/api/v1/query?" + urlencode({"query": expression}))
            answer = client.getresponse()
            if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                return []
            body = json.loads(answer.read())
        except ConnectionRefusedError:
            return []
        finally:
            client.close()
        assert body["status"] == "success", body
        found: list[dict[str, Any]] = body["data"]["result"]
        return found
