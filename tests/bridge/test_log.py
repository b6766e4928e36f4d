"""Logs: one form for all loggers, on stderr, without secrets."""

import io
import json
import logging
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bridge import log

Capture = pytest.CaptureFixture[str]


def lines(capsys: Capture) -> list[dict[str, object]]:
    """Return what was logged as JSON; stdout must be empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_json_line_on_stderr(capsys: Capture) -> None:
    """Level, logger and time stand beside the event and its values."""
    log.configure("info", "json")

    log.get_logger("nautilus_bridge.publisher").info("redis.connected", attempts=2)

    (line,) = lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "redis.connected",
        "level": "info",
        "logger": "nautilus_bridge.publisher",
        "attempts": 2,
    }


def test_auto_is_json_where_stderr_is_no_terminal(capsys: Capture) -> None:
    """Under systemd or in a pipe the log is for machines."""
    log.configure()

    log.get_logger().info("node.started")

    assert [line["event"] for line in lines(capsys)] == ["node.started"]


def test_auto_is_for_people_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the event is text."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    log.configure()

    log.get_logger().info("node.started")

    assert "node.started" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_console_can_be_asked_for(capsys: Capture) -> None:
    """`console` holds also where stderr is no terminal, and then without color codes."""
    log.configure("info", "console")

    log.get_logger().info("node.started", took=3)

    written = capsys.readouterr().err
    assert "took=3" in written
    assert "\x1b" not in written


def test_the_level_holds_for_our_loggers(capsys: Capture) -> None:
    """What is below the level is not written; children follow."""
    log.configure("warning", "json")
    logger = log.get_logger("nautilus_bridge.tap")

    logger.info("quiet")
    logger.warning("loud")

    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_other_libraries_speak_from_warning_up(capsys: Capture) -> None:
    """Our debug level does not open theirs; their lines have the same form."""
    log.configure("debug", "json")

    logging.getLogger("asyncio").info("quiet")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("nautilus_bridge.x").debug("ours")

    found = [(line["logger"], line["event"]) for line in lines(capsys)]
    assert found == [("asyncio", "slow callback"), ("nautilus_bridge.x", "ours")]


def test_configuring_twice_writes_once(capsys: Capture) -> None:
    """The second call replaces the first, its level included."""
    log.configure("error", "json")
    log.configure("info", "json")

    log.get_logger().info("node.started")

    assert len(lines(capsys)) == 1


@pytest.mark.parametrize(
    "key", ["password", "pass", "client_secret", "Token", "api_key", "API-KEY", "private_key"]
)
def test_a_secret_key_is_masked_at_any_depth(capsys: Capture, key: str) -> None:
    """What stands under such a key is never written, in a table in a list either."""
    log.configure("info", "json")

    log.get_logger().info("x", **{key: "hunter2"}, deep=[{"inner": {key: "hunter2"}}])

    (line,) = lines(capsys)
    assert line[key] == "***"
    assert line["deep"] == [{"inner": {key: "***"}}]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://user:hunter2@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("redis://hunter2@host", "redis://***@host"),
        ("rediss://u:p@ss/w:rd@host/1 refused", "rediss://u:***@host/1 refused"),
        (
            "unix:///run/redis.sock?db=0&password=hunter2",
            "unix:///run/redis.sock?db=0&password=***",
        ),
        ("to redis://a:b@c and amqp://d:e@f", "to redis://a:***@c and amqp://d:***@f"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://ops@desk:hunter2@host/0", "redis://***@host/0"),
        ("redis://@:hunter2@host/0", "redis://***@host/0"),
        ("mail to me@home: done", "mail to me@home: done"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    """The user stays to be seen, the password goes; what is no URL is left alone."""
    assert log.mask_urls(text) == masked


@given(
    password=st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1),
    user=st.text(alphabet="abc", max_size=3),
)
def test_no_password_survives(password: str, user: str) -> None:
    """Whatever a password holds, masking leaves the same text as for any other password."""
    masked = log.mask_urls(f"cannot reach redis://{user}:{password}@host:6379/0, giving up")

    assert masked == f"cannot reach redis://{user}:***@host:6379/0, giving up"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_are_masked_and_show_no_locals(capsys: Capture, log_format: str) -> None:
    """A traceback carries its message without the password, and no local variable."""
    log.configure("info", log_format)
    local = "locally" + "-known"

    try:
        raise ConnectionError("no answer from redis://:hunter2@host")
    except ConnectionError as error:
        log.get_logger().exception("redis.lost", error=error, seen=[error], size=len(local))

    written = capsys.readouterr().err
    assert "redis://:***@host" in written
    assert "hunter2" not in written
    assert "locally-known" not in written


def test_an_exception_in_json_is_a_structure(capsys: Capture) -> None:
    """Type, value and frames can be searched for."""
    log.configure("info", "json")

    try:
        raise ValueError("bad")
    except ValueError:
        log.get_logger().exception("x")

    (line,) = lines(capsys)
    assert isinstance(line["exception"], list)
    assert (line["exception"][0]["exc_type"], line["exception"][0]["exc_value"]) == (
        "ValueError",
        "bad",
    )


def test_lines_of_other_libraries_are_masked(capsys: Capture) -> None:
    """A foreign logger that prints a URL prints it without its password."""
    log.configure("info", "json")

    logging.getLogger("redis").error("connecting to %s", "redis://:hunter2@host")

    assert [line["event"] for line in lines(capsys)] == ["connecting to redis://:***@host"]


def test_the_event_itself_and_unknown_objects_are_masked(capsys: Capture) -> None:
    """No object is unfolded behind the redaction: it is text by then."""

    class Link:
        def __repr__(self) -> str:
            return "Link(redis://:hunter2@host)"

    log.configure("info", "json")

    log.get_logger().info("to redis://:hunter2@host", link=Link(), nothing=None, ok=True, ratio=0.5)

    (line,) = lines(capsys)
    assert "hunter2" not in str(line)
    assert (line["nothing"], line["ok"], line["ratio"]) == (None, True, 0.5)


def test_tests_can_capture_the_events() -> None:
    """structlog's own capture sees what a module's logger says, configured or not."""
    logger = log.get_logger("nautilus_bridge.x")
    log.configure("info", "json")

    with structlog.testing.capture_logs() as logs:
        logger.info("mode.changed", was="run")

    assert logs == [{"event": "mode.changed", "was": "run", "log_level": "info"}]
