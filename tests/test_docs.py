"""README and CHANGELOG say what the code does: their tables, examples, messages and versions."""

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import jsonschema
import pytest

from bridge import config, exits
from bridge.core import contract
from tests import readme
from tests.ops.monitoring import DASHBOARDS, promtool_or_skip
from tests.readme import README, ROOT
from tests.servers import RedisServer

TEXT = README.read_text()
EXAMPLE_SECONDS_MAX = 150.0
SOURCES = ("acceptance", "bridge", "integrations", "ops", "strategies")


def block(language: str, first_line: str = "") -> str:
    """Return the README's code block of that language that begins with that line."""
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return next(code for code in blocks if code.startswith(first_line))


def section(title: str) -> str:
    """Return the text below a heading of the second level."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def cells(title: str) -> list[list[str]]:
    """Return the rows of the one table in a section."""
    rows = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


runs_an_example = pytest.mark.timeout(2 * EXAMPLE_SECONDS_MAX)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def start_example(tmp_path: Path, redis_server: RedisServer):
    """Return `start(name)`: the README's file of that name, run as written in an empty folder."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        (tmp_path / name).write_text(block("python", f"# {name}"))
        process = subprocess.Popen(
            [sys.executable, "-u", "-W", "always::ResourceWarning", name],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONASYNCIODEBUG": "",
                "BRIDGE_REDIS__URL": redis_server.url,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_the_tables_are_those_of_the_code() -> None:
    """Streams, words, examples, settings and metrics; `python -m tests.readme` renews them."""
    assert readme.render(TEXT) == TEXT
    assert set(re.findall(r"<!-- table: (\w+) -->", TEXT)) == set(readme.TABLES)


def test_the_example_entries_keep_the_contract() -> None:
    """The quote of the examples, the only one not recorded, is one the schema allows."""
    schema = contract.json_schema(contract.default_names())
    fields = contract.to_dict("quotes", (*readme.QUOTE, "BINANCE"))

    jsonschema.validate(fields, {**schema, "$ref": "#/$defs/quotes"})


def test_the_exit_codes_are_complete() -> None:
    """Every code of bridge/exits.py stands in the table under its name, and no other."""
    codes = {f"`{name}`": str(code) for name, code in vars(exits).items() if name.isupper()}

    assert {name: code for code, name, _ in cells("Exit codes")} == codes


@pytest.mark.parametrize("row", cells("Troubleshooting"), ids=lambda row: row[0])
def test_each_message_exists(row: list[str]) -> None:
    """What troubleshooting quotes is what the sources say."""
    paths = [path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file()]
    said = "".join(path.read_text() for path in paths if path.suffix in (".py", ""))
    # A long message is a row of literals, one a line.
    said = re.sub(r'"\n\s*f?"', "", said)

    for quoted in re.findall(r"`([^`]+)`", row[0]):
        assert quoted in said


def test_every_target_is_named() -> None:
    """The README mentions each target that `make` lists."""
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert [name for name in targets if f"make {name}" not in TEXT] == []


def test_every_path_is_there() -> None:
    """Folders and files that the README names exist in the tree."""
    folders = "acceptance|bridge|integrations|ops|strategies|tests"
    named = set(re.findall(rf"(?<![\w/-])(?:{folders})/[\w/.-]*\w", TEXT))
    named |= set(re.findall(r"\]\(([^)#:]+)\)", TEXT))

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_example_settings_are_usable(tmp_path: Path) -> None:
    """The TOML of the README loads."""
    path = tmp_path / "bridge.toml"
    path.write_text(block("toml"))

    assert config.load(path, environ={}).market.maxlen == 50_000


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_rules_are_taken_as_written(tmp_path: Path) -> None:
    """Where the README copies them Prometheus finds the rules, and takes the configuration."""
    promtool, folder = promtool_or_skip(), tmp_path / "prometheus"
    copy = block("sh", "sudo install -D -m 644 -t /etc/prometheus").replace("sudo ", "")
    copy = copy.replace("/etc/prometheus", str(folder))
    subprocess.run(["sh", "-e"], cwd=ROOT, input=copy, text=True, check=True)
    (folder / "prometheus.yml").write_text(block("yaml", "rule_files:"))

    words = [promtool, "check", "config", folder / "prometheus.yml"]
    done = subprocess.run(words, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "2 rule files found" in done.stdout


def test_the_dashboards_are_handed_over_as_written() -> None:
    """Each file is put where Grafana takes dashboards, whole, and replaces an older one."""
    if not all(map(shutil.which, ("jq", "curl"))):
        pytest.skip("no jq or no curl")
    bodies: list[dict] = []

    class Grafana(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            bodies.append({"path": self.path} | json.loads(self.rfile.read(size)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Grafana) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        commands = block("sh", "export GRAFANA").replace("3000", str(server.server_port))
        subprocess.run(["sh", "-e"], cwd=ROOT, input=commands, text=True, timeout=30)
        server.shutdown()
        thread.join()

    dashboards = [json.loads(path.read_text()) for path in sorted(DASHBOARDS)]
    assert [body["dashboard"] for body in bodies] == dashboards
    assert {(body["path"], body["overwrite"]) for body in bodies} == {("/api/dashboards/db", True)}


def test_the_versions_are_those_in_force() -> None:
    """README names the pinned Nautilus, CHANGELOG begins with the project's version."""
    project = pyproject()["project"]
    pin = next(line for line in project["dependencies"] if line.startswith("nautilus_trader"))
    newest = re.search(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert f"`nautilus_trader` {pin.partition('==')[2]}" in TEXT
    assert newest is not None
    assert newest[1] == project["version"]


@runs_an_example
def test_the_backtest_runs_as_written(start_example, redis_server: RedisServer) -> None:
    """It publishes every entry under its own prefix."""
    said, problems = start_example("my_backtest.py").communicate(timeout=EXAMPLE_SECONDS_MAX)

    prefix = re.search(r"streams begin with (backtest:\w+:); not published: (.*)", said)
    assert prefix is not None, problems
    assert prefix[2] == "{'exec': 0, 'market': 0}"
    assert redis_server.client.xlen(f"{prefix[1]}exec:fills") > 10
    assert redis_server.client.xlen(f"{prefix[1]}market.raw.crypto.BTCUSDT-PERP") == 60


@runs_an_example
def test_the_node_runs_as_written(start_example, redis_server: RedisServer) -> None:
    """It publishes sandbox fills under `shadow:`, calls the handler, and ends on Ctrl-C."""
    process = start_example("my_node.py")
    deadline = time.monotonic() + EXAMPLE_SECONDS_MAX
    first = next((line for line in process.stdout if line.startswith("filled ")), None)
    process.send_signal(signal.SIGINT)

    _, problems = process.communicate(timeout=deadline - time.monotonic())

    assert first is not None, problems
    assert process.returncode == 0, problems
    assert "ResourceWarning" not in problems
    assert redis_server.client.xlen("shadow:exec:fills") >= 1
    assert redis_server.client.xlen("shadow:market.raw.crypto.BTCUSDT") > 0


@runs_an_example
def test_the_recipe_of_a_strategy_runs_as_written(tmp_path: Path) -> None:
    """A strategy of one's own and what stands for its original are judged to trade alike."""
    for name in (".venv", "acceptance", "integrations", "strategies", "bridge"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("my_strategy.py", "my_original.py"):
        (tmp_path / name).write_text(block("python", f"# {name}"))
    commands = block("sh", "make run STRATEGY=my_strategy").partition("\n")[2]

    done = subprocess.run(
        ["sh", "-e"],
        cwd=tmp_path,
        input=commands,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS_MAX,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1439 fills" in done.stdout
    assert "pass: gates of the strict tier" in done.stdout
