"""ops/RUNBOOK.md: a section for each exit code; its commands, run as they are written."""

import os
import re
from pathlib import Path

import pytest

from bridge import exits
from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import ROOT
from tests.ops.booted import OPT, PASSWORD, UNIT, Booted, damage_journal, release_of
from tests.ops.placed import PYTHON
from tests.servers import server_or_exit

RUNBOOK = (ROOT / "ops" / "RUNBOOK.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", RUNBOOK, re.MULTILINE))
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = BLOCK.findall(RUNBOOK)[0]
# What is not in the machine of the test; and what goes on until Ctrl-C.
ABSENT = re.compile(r"^(journalctl|chronyc|timedatectl) .*$", re.MULTILINE)
ENDLESS = re.compile(r"^(nautilus-bridge shadow run .*|redis-cli --latency-history .*)$", re.M)
ENDLESS_SECONDS = 6
# What asks at a terminal; the test has none, and hands the password over.
ASKED = re.compile(r"systemd-ask-password '[^']*'")
# Its exit code says what it finds.
FINDS = re.compile(r"^nautilus-bridge shadow journal$", re.MULTILINE)
# Those of a clone, not of a service.
ELSEWHERE = ("`make accept` does not pass",)
IN_MACHINE = [
    title for title, text in SECTIONS.items() if title not in ELSEWHERE and "```sh" in text
]
AOF = b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize("code", [v for name, v in vars(exits).items() if name.isupper()])
def test_each_exit_code_has_a_section(code: int) -> None:
    """It is found by the words that `doctor` and the operator have."""
    assert [title for title in SECTIONS if title.startswith(f"Exit {code}:")]


def test_every_block_is_closed() -> None:
    """No section ends inside a block of commands."""
    for title, text in SECTIONS.items():
        assert text.count("```") == 2 * len(BLOCK.findall(text)), title


@pytest.fixture(scope="module")
def service(machine: Booted) -> Booted:
    """The machine with a bridge that trades, and what the commands look for."""
    machine.path("/var/lib/redis/appendonlydir").mkdir(parents=True, exist_ok=True)
    machine.path("/var/lib/redis/appendonlydir/appendonly.aof.1.incr.aof").write_bytes(AOF)
    assert machine.call("systemctl", "start", UNIT).returncode == 0, machine.said
    # Without the second `doctor` would find something to say.
    run(
        machine,
        "redis-cli set features:nautilus_shadow_exec 1; redis-cli config set appendonly yes",
    )
    return machine


def run(machine: Booted, commands: str) -> str:
    """Run commands in a shell that ends with the first one that fails; return what they say."""
    tools = f"{Path(server_or_exit(find_redis_server())).parent}:{os.environ['PATH']}"
    words = ["env", f"PATH={tools}", f"PYTHON={PYTHON}", "sh", "-ec", f"{SHELL}\n{commands}"]
    done = machine.call(*words, given=f"{PASSWORD}\n")
    said = f"{commands}\n{done.stdout}\n{done.stderr}\n{machine.said[-2000:]}"
    assert done.returncode == 0, said
    assert "usage:" not in done.stderr
    assert not re.search("^(ERR|NOAUTH|WRONG|NOPERM)", done.stdout, re.MULTILINE), done.stdout
    return done.stdout


def upgrade(machine: Booted) -> None:
    """Make a second release, the latest, with the packages of the first."""
    module = machine.path("/house/bridge/__init__.py")
    module.write_text(re.sub(r'(VERSION.*)".*"', r'\1"99.0.0"', module.read_text()))
    site = f"{OPT}/current/.venv/lib/python3*/site-packages"
    run(machine, f"cp {site}/site.pth /tmp/; /house/ops/install; cp /tmp/site.pth {site}/")


def prepare(machine: Booted, title: str) -> str:
    """Bring about what a section is for; return the command that goes to where it is run."""
    if title.startswith("Exit 65"):
        run(machine, f"systemctl stop {UNIT}")
        damage_journal(machine)
    if title == "Upgrade and rollback":
        upgrade(machine)
        return "cd /house\n"
    return ""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("title", IN_MACHINE)
def test_its_commands_do_what_they_say(service: Booted, title: str) -> None:
    """Run in this order, with a bridge that runs: each ends with 0, and at the end one runs."""
    run(service, f"systemctl start {UNIT}")
    before = release_of(service)
    newest = "redis-cli xrevrange shadow:exec:archive + - count 1"
    root = run(service, f"{newest} | grep -A1 root | tail -1").strip()
    where = prepare(service, title)
    for block in BLOCK.findall(SECTIONS[title]):
        commands = ABSENT.sub("", block).replace("ROOT", root)
        commands = ASKED.sub("head -n 1", commands)
        commands = FINDS.sub(rf"\g<0> || [ $? = {exits.BAD_DATA} ]", commands)
        commands = ENDLESS.sub(rf"timeout -s INT {ENDLESS_SECONDS} \1 || [ $? = 124 ]", commands)
        run(service, where + commands)
    run(service, f"systemctl start {UNIT}; systemctl is-active {UNIT}")
    if title == "Upgrade and rollback":
        assert release_of(service) == before
