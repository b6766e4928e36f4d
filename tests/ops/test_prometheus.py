"""ops/prometheus: alerts that fire and stay silent, names that exist, a section for each alert."""

import re
import subprocess
from pathlib import Path

import pytest

from bridge.metrics import Metrics
from tests.ops.monitoring import RULES, named, promtool_or_skip, recorded, sampled

ALERTS = re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text())
TESTS = (RULES / "alerts_test.yml").read_text()
RUNBOOK = (RULES.parent / "RUNBOOK.md").read_text()
WANTED = {
    *("Down", "ExecBacklog", "JournalGrowing", "RedisErrors", "MarketDrops", "Halted", "Latched"),
    *("FlagMismatch", "ReaderLag", "ReaderGap", "BaseJump", "ArchiveBehind"),
    *("NativeBackingClosed", "ClockSkew", "StaleData", "NotScraped", "NoticesLost"),
    *("EventsRefused", "DeadLetters"),
}
DOCUMENTED = ("events_processed", "orders_published", "fills_published", "redis_errors")
RUNBOOK_URL = "file:///opt/nautilus-redis-bridge/current/ops/RUNBOOK.md"
PORTS = {"live": 9309, "shadow": 9310, "demo": 9311}


@pytest.fixture(scope="session")
def promtool() -> Path:
    return promtool_or_skip()


def checked(promtool: Path, *words: str, given: bytes = b"") -> None:
    """Have promtool check something, or what it is `given`. AssertionError with what it says when
    it does not pass."""
    done = subprocess.run([promtool, *words], cwd=RULES, input=given, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_alerts_are_those_that_are_wanted() -> None:
    """One for each way in which the bridge fails its people, each once."""
    assert sorted(ALERTS) == sorted([f"NautilusBridge{name}" for name in WANTED])


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_and_explained(alert: str) -> None:
    """It has a test that fires it and one that does not, and the runbook has the section that its
    annotation points to."""
    assert f"name: {alert} fires" in TESTS
    assert f"name: {alert} stays silent" in TESTS
    assert f"\n## {alert}\n" in RUNBOOK
    assert f"runbook_url: {RUNBOOK_URL}#{alert.lower()}\n" in (RULES / "alerts.yml").read_text()


@pytest.mark.parametrize("name", ["alerts.yml", "alerts_test.yml", "recording.yml"])
def test_every_name_exists(name: str) -> None:
    """The rules, and what their tests feed them, name what a bridge samples or a rule records."""
    assert named((RULES / name).read_text()) - sampled() - recorded() == set()


def test_the_documented_names_are_recorded() -> None:
    """Panels from before find the four counters under their bare names; nothing else is made."""
    assert {f"nautilus_bridge_{name}" for name in DOCUMENTED} == recorded()


@pytest.mark.parametrize(("role", "port"), PORTS.items())
def test_each_role_is_scraped_at_its_port(role: str, port: int) -> None:
    """The example has a target for it, under the role's name; that of the demo alone counts: a role
    that is not installed would alert as down."""
    said = (RULES / "prometheus.yml").read_text()
    mark = "" if role == "demo" else "# "
    target = (
        f'      {mark}- targets: ["127.0.0.1:{port}"]\n      {mark}  labels: {{role: {role}}}\n'
    )

    assert target in said


@pytest.mark.slow
def test_promtool_takes_the_files(promtool: Path) -> None:
    """The scrape example with all rules that it names."""
    checked(promtool, "check", "config", "prometheus.yml")


@pytest.mark.slow
def test_promtool_takes_the_metrics(promtool: Path) -> None:
    """Their names, types and help keep Prometheus's rules."""
    metrics = Metrics()
    metrics.set_info(version="1", nautilus_version="2", role="demo")

    checked(promtool, "check", "metrics", given=metrics.exposition())


@pytest.mark.slow
def test_the_alerts_fire_and_stay_silent(promtool: Path) -> None:
    """Every case of alerts_test.yml."""
    checked(promtool, "test", "rules", "alerts_test.yml")
