"""README, "As a service": its commands, run as they are written."""

import os
import pty
import re
import shutil
import termios
from pathlib import Path

import pytest

from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import ROOT, eventually
from tests.ops.booted import OPT, PASSWORD, PASSWORD_FILE, Booted
from tests.ops.placed import PYTHON
from tests.servers import server_or_exit

URLS_FILE = "/etc/nautilus-redis-bridge/credentials/shadow/notify-urls"
SERVICE = (ROOT / "README.md").read_text().partition("\n## As a service\n")[2]
STEPS = re.findall(r"^```sh\n(.*?)^```$", SERVICE, re.MULTILINE | re.DOTALL)[0]


def typed(command: str, prompt: bytes, text: str) -> tuple[int, bytes]:
    """Run a command at a terminal and answer its prompt; return its exit code and what it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", command])
    shown = b""
    while prompt not in shown:
        shown += os.read(terminal, 1000)
    eventually(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "a terminal that hides")
    os.write(terminal, f"{text}\n".encode())
    try:
        while more := os.read(terminal, 1000):
            shown += more
    except OSError:  # how Linux says that nobody has it open any more
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown


@pytest.mark.skipif(not shutil.which("systemd-ask-password"), reason="no systemd-ask-password")
def test_the_password_is_asked_for(tmp_path: Path) -> None:
    """It is written for root alone, as the one line, and never shown."""
    [step] = [line for line in STEPS.splitlines() if PASSWORD_FILE in line]
    file = tmp_path / "redis-password"
    command = step.removeprefix("sudo ").replace(PASSWORD_FILE, str(file))

    code, shown = typed(command, b"password:", PASSWORD)

    assert code == 0
    assert PASSWORD.encode() not in shown
    assert file.read_text().strip() == PASSWORD
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not shutil.which("systemd-ask-password"), reason="no systemd-ask-password")
def test_alert_urls_are_asked_for(tmp_path: Path) -> None:
    """Each time one is added as a line, for root alone, and never shown."""
    [step] = re.findall(f"^sudo (sh -c .*{URLS_FILE}.*)$", SERVICE, re.MULTILINE)
    file = tmp_path / "notify-urls"
    command = step.replace(URLS_FILE, str(file))
    urls = [f"tgram://{PASSWORD}/chat", f"json://me:{PASSWORD}@host"]

    asked = [typed(command, b"URL:", url) for url in urls]

    assert [code for code, _ in asked] == [0, 0]
    assert PASSWORD.encode() not in b"".join([shown for _, shown in asked])
    assert file.read_text().splitlines() == urls
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_service_trades_as_written(machine: Booted) -> None:
    """All steps but those of an editor and a terminal: at the end it runs and its gates
    are open."""
    tools = f"{Path(server_or_exit(find_redis_server())).parent}:{os.environ['PATH']}"
    around = ("env", f"PATH={tools}", f"PYTHON={PYTHON}", f"REDISCLI_AUTH={PASSWORD}", "sh", "-ec")
    left = ("#", "sudoedit", "sudo sh -c")
    steps = [line for line in STEPS.splitlines() if not line.startswith(left)]
    # Without the first `doctor` would find something to say.
    words = ["redis-cli config set appendonly yes", "cd /house", *steps]

    done = machine.call(*around, "\n".join(words).replace("sudo ", ""))

    assert done.returncode == 0, done.stdout + done.stderr
    status = (*around, f"{OPT}/nautilus-bridge shadow status")
    eventually(lambda: "shadow  ACTIVE" in machine.call(*status).stdout, "an open gate")
