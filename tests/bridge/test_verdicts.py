"""bridge/verdicts.py: what an audit and an acceptance run left behind."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from acceptance.__main__ import main as accept
from acceptance.record import save
from bridge import exits, verdicts
from tests.acceptance.rigs import result
from tests.bridge.kept import FILLS, Kept, typed
from tests.servers import RedisServer


def test_an_audit_leaves_its_verdict(redis_server: RedisServer, tmp_path: Path) -> None:
    """The command keeps what it came to, and the next one what that came to."""
    kept = Kept(tmp_path / "state", redis_server)
    kept.trade(3)
    kept.read()
    began_ns = time.time_ns()

    assert typed("audit", **kept.settings).code == exits.DONE
    agreed = verdicts.audit(tmp_path / "state")
    kept.client.xdel(FILLS, kept.client.xrange(FILLS)[1][0])
    assert typed("audit", "--timeout", "0", **kept.settings).code == exits.FAILED
    differed = verdicts.audit(tmp_path / "state")

    assert agreed is not None and differed is not None
    assert agreed["verdict"] == "agree"
    assert began_ns <= agreed["ts_ns"] < differed["ts_ns"]
    assert differed["verdict"] == "differ"
    assert "missing in Redis" in differed["text"]


def test_an_audit_that_cannot_leave_it_is_an_audit(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Where the folder cannot be written to, the verdict is printed all the same, and its code."""
    kept = Kept(tmp_path / "state", redis_server)
    kept.trade(1)
    kept.read()
    (tmp_path / "state" / verdicts.AUDIT).mkdir()
    (tmp_path / "state" / verdicts.AUDIT / "in the way").touch()

    done = typed("audit", **kept.settings)

    assert done.code == exits.DONE
    assert "the ops page will not show this verdict" in done.err
    assert verdicts.audit(tmp_path / "state") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"verdict": 1, "ts_ns": 1, "text": ""}', "[" * 10**5]
)
def test_what_is_no_verdict_is_none(tmp_path: Path, text: str) -> None:
    """A damaged file, or one of something else."""
    (tmp_path / verdicts.AUDIT).write_text(text)

    assert verdicts.audit(tmp_path) is None
    assert verdicts.acceptance(tmp_path / verdicts.AUDIT) is None


@pytest.mark.parametrize(("is_mock", "verdict"), [(False, "pass"), (True, "cannot judge")])
def test_the_verdict_of_an_acceptance_run(tmp_path: Path, *, is_mock: bool, verdict: str) -> None:
    """What `python -m acceptance compare` wrote is read as it meant it, with the file's time."""
    save(replace(result(), mock=is_mock), tmp_path / "a.json")
    save(result(), tmp_path / "b.json")
    words = [str(tmp_path / name) for name in ("a.json", "b.json")]
    accept(["compare", *words, "--output", str(tmp_path / "out")])
    path = tmp_path / "out" / "comparison.json"

    told = verdicts.acceptance(path)

    assert told is not None
    assert (told["verdict"], told["tier"]) == (verdict, "strict")
    assert told["ts_ns"] == path.stat().st_mtime_ns
    assert ("none was judged" in told["text"]) is is_mock
