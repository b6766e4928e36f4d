"""python -m acceptance: its commands, what they print, and how they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest

from acceptance import record, tolerance
from acceptance.__main__ import main
from acceptance.record import Record
from tests.acceptance.fills_rig import publish, small, write_csv
from tests.acceptance.rigs import result
from tests.bridge.processes import ROOT, eventually
from tests.servers import RedisServer

COMMANDS = ("compare", "run", "golden", "schema", "from-redis", "from-csv", "shadow")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a small dataset."""
    return small(tmp_path_factory.mktemp("acceptance"))[1]


def saved(path: Path, made: Record) -> str:
    record.save(made, path)
    return str(path)


def compared(tmp_path: Path, a: Record, b: Record, *more: str) -> int:
    words = [saved(tmp_path / "a.json", a), saved(tmp_path / "b.json", b)]
    return main(["compare", *words, "--output", str(tmp_path / "out"), *more])


def other_counts() -> Record:
    """Return a result that differs in what the program counted only."""
    base = result()
    return replace(base, run=replace(base.run, counts=base.run.counts | {"decisions": 7}))


def test_compare_writes_the_report_in_all_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pass ends with 0; the table is printed, page, Markdown and JSON are written."""
    assert compared(tmp_path, replace(result(), program="nautilus"), result()) == 0

    out = capsys.readouterr().out
    assert out.startswith("pass: gates of the strict tier") and "A nautilus" in out
    told = json.loads((tmp_path / "out/comparison.json").read_text())
    assert (told["verdict"], told["exit_code"], told["a"]["name"]) == ("pass", 0, "A nautilus")
    assert (tmp_path / "out/report.md").read_text().startswith("# Acceptance: pass\n")
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")
    assert str(tmp_path / "out/report.html") in out


def test_compare_tells_fail_from_cannot_judge(tmp_path: Path) -> None:
    """A gate that fails ends with 1, a result that is no evidence with 2."""
    assert compared(tmp_path, other_counts(), result()) == 1
    assert compared(tmp_path, replace(result(), mock=True), result()) == 2


def test_tier_and_tolerances_decide_what_fails(tmp_path: Path) -> None:
    """The contract has no gate for counts; a file of the user's may allow a difference."""
    text = tolerance.FILE.read_text()
    loose = tmp_path / "loose.toml"
    loose.write_text(text.replace('unit = "counts"\nat_most = 0', 'unit = "counts"\nat_most = 1'))

    assert compared(tmp_path, other_counts(), result(), "--tier", "contract") == 0
    assert compared(tmp_path, other_counts(), result(), "--tolerances", str(loose)) == 0


def test_a_golden_is_pinned_deliberately(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is pinned without --write; another result then fails, alone and in compare."""
    one, golden = saved(tmp_path / "one.json", result()), str(tmp_path / "golden.json")
    other = saved(tmp_path / "other.json", other_counts())

    assert main(["golden", one, golden]) == 2
    assert main(["golden", one, golden, "--write"]) == 0
    assert record.sha256(result()) in capsys.readouterr().out
    assert main(["golden", one, golden]) == 0
    assert main(["golden", other, golden]) == 1
    assert compared(tmp_path, result(), result(), "--golden", golden) == 0
    assert compared(tmp_path, other_counts(), other_counts(), "--golden", golden) == 1


def test_the_schema_fits_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A result that was saved is valid by the schema that is printed."""
    path = saved(tmp_path / "a.json", result())

    assert main(["schema"]) == 0

    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schema).validate(json.loads(Path(path).read_text()))


def test_shadow_ends_as_it_finds(
    tmp_path: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of the size is the same decision: 0; with one missing 1; with none at all 2."""
    reference = saved(tmp_path / "live.json", result())
    ours = [replace(fill, qty=fill.qty / 10, fee=fill.fee / 10) for fill in result().fills or ()]
    place = f"{redis_server.url}?prefix=shadow:"
    publish(redis_server.client, ours, "shadow:")

    assert main(["shadow", place, reference, "--tolerance-seconds", "5"]) == 0
    assert capsys.readouterr().out.startswith("pass: 30 matched\n")
    fills = write_csv(tmp_path / "part.csv", ours[:-1])
    assert main(["shadow", str(fills), reference, "--tolerance-seconds", "5"]) == 1
    assert "29 matched, 1 missing" in capsys.readouterr().out
    assert main(["shadow", str(fills), reference, "--to", "2025-07-01"]) == 2
    assert main(["shadow", reference, reference, "--size-fraction", "1", "--json"]) == 0
    capsys.readouterr()


def test_shadow_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--from and --to take an ISO time or ns; --json has every decision between them."""
    reference = saved(tmp_path / "live.json", result())
    last = (result().fills or ())[-1].ts
    words = ["--size-fraction", "1", "--tolerance-seconds", "5", "--json", "--from", str(last)]

    assert main(["shadow", reference, reference, *words]) == 0

    known = json.loads(capsys.readouterr().out)
    assert [row["ts"] for row in known["orders"]] == [last, last]
    assert known["size_fraction"] == "1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "none.json", "none.json"], "none.json: cannot be read"),
        (["compare", "{good}", "{good}", "--tolerances", "none.toml"], "none.toml: cannot be read"),
        (["compare", "{good}", "{good}", "--output", "{good}"], "Not a directory"),
        (["run", "legacy", "--dataset", "none/spot.parquet"], "none: does not exist"),
        (["run", "legacy", "--dataset", "{data}", "--params", "{good}"], "a.json: "),
        (["run", "legacy", "--dataset", "{data}", "--symbols", "XRP"], "XRP"),
        (["run", "legacy", "--dataset", "{data}", "--start", "2025-08-01"], "2025-08-01"),
        (["from-csv", "none.csv", "--output", "x.json"], "none.csv: cannot be read"),
        (["from-redis", "redis://host/x", "--output", "x.json"], "is not a number"),
        (["shadow", "none.json", "none.csv"], "none.json: cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: Sequence[str],
    said: str,
) -> None:
    """No traceback: one line that names the file or the value, and exit code 2."""
    good = saved(tmp_path / "a.json", result())

    assert main([word.format(good=good, data=data) for word in words]) == 2

    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and not shown.out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["trade"],
        ["compare", "a"],
        ["run"],
        ["run", "--output", "x", "nautilus"],
        ["shadow", "a", "b", "--from", "noon"],
    ],
)
def test_wrong_arguments_end_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The usage is shown; a time that is none is named."""
    with pytest.raises(SystemExit) as stop:
        main(words)

    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: python -m acceptance")
    assert "noon" not in words or "'noon' is no time" in err


@pytest.mark.parametrize("words", [[], *[[command] for command in COMMANDS]])
def test_help_names_the_exit_codes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command tells what 0, 1 and 2 mean."""
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])

    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "exit codes" in out and "cannot judge" in out
    assert words or all(command in out for command in COMMANDS)


def test_an_interrupt_ends_quietly(tmp_path: Path) -> None:
    """Ctrl-C in the middle of reading ends the process with 130, without a traceback."""
    pipe = tmp_path / "fills.csv"
    os.mkfifo(pipe)
    words = [sys.executable, "-m", "acceptance", "from-csv", str(pipe), "--output", "x.json"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            writer = eventually(lambda: opened(pipe), "somebody reads the pipe")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    os.close(writer[0])

    assert (process.returncode, err) == (130, b"")


def test_an_interrupt_while_it_is_loaded_ends_quietly(tmp_path: Path) -> None:
    """Ctrl-C while the packages are imported, seconds on a busy machine: no traceback either."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "numpy.py").write_text(f"open({str(pipe)!r}).read()")  # the import waits
    settings = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "acceptance", "schema"]
    with subprocess.Popen(words, cwd=ROOT, env=settings, stderr=subprocess.PIPE) as process:
        try:
            writer = eventually(lambda: opened(pipe), "somebody imports the pipe")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    os.close(writer[0])

    assert (process.returncode, err) == (-signal.SIGINT, b"")


def opened(pipe: Path) -> list[int]:
    """Return a descriptor to write to the pipe, none while nobody reads it."""
    try:
        return [os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)]
    except OSError:
        return []


def test_size_fraction_must_be_above_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """Zero, a negative number and a word are no fraction."""
    for text in ("0", "-1", "tenth"):
        with pytest.raises(SystemExit):
            main(["shadow", "a", "b", f"--size-fraction={text}"])
        assert f"{text!r} is no number above 0" in capsys.readouterr().err
    assert Decimal("0.1") == Decimal(1) / 10


def test_a_report_does_not_outlive_what_it_was_of(tmp_path: Path) -> None:
    """When a result cannot be read, no earlier report is left to be taken for its own."""
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert compared(tmp_path, result(), result()) == 0
    (folder,) = {path.parent for path in tmp_path.rglob("comparison.json")}
    words = ["compare", str(broken), str(broken), "--output", str(folder)]

    assert main(words) == 2

    assert [path.name for path in folder.glob("report.*")] == []
    assert not (folder / "comparison.json").exists()
