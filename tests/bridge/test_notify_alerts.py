"""bridge/notify.py, apprise and a webhook: sent, retried, limited, given up, never in the way."""

import io
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import config, exits, log, notify, notify_channel, notify_words
from bridge.core.notices import HOUR_NS
from bridge.exits import Exit
from bridge.metrics import Metrics
from bridge.notify import TEXT_MAX, Notifier
from tests.bridge.processes import ROOT, environment, eventually
from tests.bridge.webhooks import TOKEN, Webhook, need_apprise
from tests.servers import free_port

need_apprise()

ATTEMPT = "bridge.notify.attempt"
OFF = """
import sys, threading
from bridge.metrics import Metrics
from bridge.notify import Notifier
from bridge.settings import Config
notifier = Notifier(Config(), None, Metrics())
with notifier.running():
    notifier.start()
    notifier.up(lambda: None)
    notifier.tell("halt", "nobody hears it")
print(threading.active_count(), "apprise" in sys.modules)
"""

type Make = Callable[..., Notifier]
type Counted = Callable[[str, str], float]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged, by whomever, as the daemon would show it."""
    stream, level = io.StringIO(), logging.getLogger().level
    log.configure("debug", "json", stream=stream)
    logging.getLogger().setLevel(logging.DEBUG)
    yield stream
    log.remove_handler()
    logging.getLogger().setLevel(level)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make(tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return `make(*urls, **settings)`: a notifier that keeps its memory in `tmp_path`, and whose
    end is not in a hurry."""
    made = []
    monkeypatch.setattr(notify, "CLOSE_SECONDS_MAX", 15.0)

    def make(*urls: str, **settings: object) -> Notifier:
        given = {"per_hour_max": 1_000, "retry_seconds_max": 0.01} | settings
        overrides = {f"notify.{name}": str(value) for name, value in given.items()}
        overrides["notify.urls"] = ",".join(urls)
        made.append(Notifier(config.load(None, environ={}, overrides=overrides), tmp_path, metrics))
        return made[-1]

    yield make
    for each in made:
        each.end(exits.DONE)


@pytest.fixture
def counted(metrics: Metrics) -> Counted:
    """Return `counted(name, kind)`: how many notices were sent, failed or dropped."""

    def counted(name: str, kind: str) -> float:
        value: Any = getattr(metrics, f"notices_{name}")[kind]._value.get()
        return float(value)

    return counted


def test_off_until_configured() -> None:
    """Without a URL there is no thread, and apprise is not even imported."""
    command = [sys.executable, "-c", OFF]
    done = subprocess.run(
        command, cwd=ROOT, env=environment({}), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "False"]


def test_sent(webhook: Webhook, make: Make, counted: Counted) -> None:
    """A notice arrives as it is, under a title that says who speaks, and is counted."""
    make(webhook.url).tell("breach", "the *daily* loss <is> 5 & more")

    assert webhook.until("") == "breach the *daily* loss <is> 5 & more"
    assert webhook.requests[0]["title"].startswith("demo DEMO-001 on ")
    assert webhook.requests[0]["type"] == "failure"
    eventually(lambda: counted("sent", "breach") == 1, "the count")


def test_a_service_that_wants_html(webhook: Webhook, make: Make) -> None:
    """A text stays what it is: nothing in it is taken for markup."""
    make(f"{webhook.url}?format=html").tell("halt", "a < b & <i>c</i>")
    assert "a &lt; b &amp; &lt;i&gt;c" in webhook.until("halt").replace("&nbsp;", " ")


def test_only_the_kinds_that_are_wanted(webhook: Webhook, make: Make) -> None:
    """What is not in notify.kinds is not told."""
    notifier = make(webhook.url, kinds="gap,halt")
    notifier.tell("restart", "unwanted")
    notifier.tell("halt", "wanted")

    webhook.until("wanted")
    assert webhook.texts == ["halt wanted"]


def test_sent_again_until_it_is_taken(make: Make, counted: Counted) -> None:
    """What a server answers with 500 is sent again, and counts as one when it is taken."""
    with Webhook(500, 503) as webhook:
        make(webhook.url).tell("gap", "lost")
        eventually(lambda: counted("sent", "gap") == 1, "the count")

    assert webhook.texts == ["gap lost"] * 3
    assert counted("failed", "gap") == 0


def test_given_up(make: Make, counted: Counted) -> None:
    """After so many tries it counts as failed, and the next one has its turn."""
    with Webhook(500, 500, 500) as webhook:
        notifier = make(webhook.url, retry_count_max=2)
        notifier.tell("gap", "first")
        notifier.tell("gap", "second")
        eventually(lambda: counted("sent", "gap") == 1, "the second")

    assert webhook.texts == ["gap first"] * 3 + ["gap second"]
    assert counted("failed", "gap") == 1


def test_one_that_hangs_keeps_no_other_waiting(webhook: Webhook, make: Make) -> None:
    """While one URL does not answer, another one gets everything."""
    with Webhook(hangs=True) as stuck:
        notifier = make(stuck.url, webhook.url)
        notifier.tell("gap", "1")
        notifier.tell("gap", "2")
        webhook.until("2")

        eventually(lambda: stuck.texts, "the first at the one that hangs")
        assert (webhook.texts, stuck.texts) == (["gap 1", "gap 2"], ["gap 1"])


def test_an_answer_that_does_not_end(
    make: Make, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO, counted: Counted
) -> None:
    """A sender that does not come back is left behind, and counts as failed."""
    monkeypatch.setattr(notify_channel, "SEND_SECONDS_MAX", 0.05)
    with Webhook(hangs=True) as stuck:
        make(stuck.url, retry_count_max=1).tell("halt", "now")
        eventually(lambda: counted("failed", "halt") == 1, "the count")

    assert "no answer within 0.05 s" in logged.getvalue()


def attempts() -> int:
    """Return how many are under way."""
    return [each.name for each in threading.enumerate()].count(ATTEMPT)


def test_one_that_hangs_has_one_thread(
    make: Make, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO, counted: Counted
) -> None:
    """While an attempt goes on there is no other at that URL: each further one is refused."""
    monkeypatch.setattr(notify_channel, "SEND_SECONDS_MAX", 0.05)
    with Webhook(hangs=True) as stuck:
        notifier = make(stuck.url, retry_count_max=2)
        notifier.tell("halt", "1")
        notifier.tell("halt", "2")
        eventually(lambda: counted("failed", "halt") == 2, "the count")
        eventually(lambda: attempts() == 1, "one thread")

        eventually(lambda: stuck.texts, "a request")
        assert stuck.texts == ["halt 1"]
    assert "the attempt before still hangs" in logged.getvalue()


def test_an_attempt_that_has_ended_makes_room(
    make: Make, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    """A server that answers at last is sent to again."""
    monkeypatch.setattr(notify_channel, "SEND_SECONDS_MAX", 0.05)
    with Webhook(hangs=True) as stuck:
        notifier = make(stuck.url, retry_count_max=0)
        notifier.tell("halt", "1")
        eventually(lambda: counted("failed", "halt") == 1, "the first")
        stuck.release()
        monkeypatch.setattr(notify_channel, "SEND_SECONDS_MAX", 30)
        eventually(lambda: not attempts(), "the end of the first")
        notifier.tell("halt", "2")
        eventually(lambda: counted("sent", "halt") == 1, "the second")


def test_the_end_waits_only_so_long(
    make: Make, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    """The end leaves behind what is still under way, and says that it was not sent."""
    monkeypatch.setattr(notify, "CLOSE_SECONDS_MAX", 0.05)
    with Webhook(hangs=True) as stuck:
        notifier = make(stuck.url)
        notifier.tell("halt", "now")
        eventually(lambda: stuck.texts, "a request")
        notifier.end(exits.DONE)

    assert '"notices": 1' in logged.getvalue()
    assert "notify.unsent" in logged.getvalue()


def test_the_end_does_not_wait_for_the_next_try(
    make: Make, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    """What waits to be sent again is sent once more at once, and that is all."""
    monkeypatch.setattr(notify_channel, "RETRY_SECONDS_MIN", 3600.0)
    with Webhook(500, 500, 500) as webhook:
        notifier = make(webhook.url, retry_seconds_max=3600, retry_count_max=100)
        notifier.tell("halt", "now")
        eventually(lambda: webhook.texts, "the first try")
        notifier.end(exits.DONE)

        assert (len(webhook.texts), counted("failed", "halt")) == (2, 1)


def test_an_end_with_a_failure_is_told(webhook: Webhook, make: Make) -> None:
    """What the body ends with is told with its exit code, and sent before it goes on."""
    notifier = make(webhook.url)
    with pytest.raises(Exit), notifier.running():
        raise Exit(exits.UNAVAILABLE, "no Redis at redis://me:hunter2@host")

    assert webhook.texts == ["restart ended with exit code 69: no Redis at redis://me:***@host"]


@pytest.mark.parametrize("code", notify_words.STAYS_DOWN)
def test_an_end_that_needs_a_person(code: int, webhook: Webhook, make: Make) -> None:
    """What no restart mends is told as a failure, with the section of the runbook."""
    make(webhook.url).end(code, "y" * 10_000)

    [text] = webhook.texts
    assert text.splitlines() == [
        f"down ended with exit code {code}: {'y' * notify_words.REASON_MAX}",
        f"stays down: a person is needed; RUNBOOK, Exit {code}",
    ]
    assert webhook.requests[0]["type"] == "failure"


def run_of(notifier: Notifier, code: int, reason: str = "", *, is_up: bool = False) -> None:
    """Have it begin, come up or not, and end."""
    notifier.start()
    if is_up:
        notifier.up(lambda: None)
    notifier.end(code, reason)


def test_a_bridge_that_cannot_start(webhook: Webhook, make: Make) -> None:
    """However often it tries, each reason is told once, and the recovery beyond the limit; what
    happens behind it is news again."""
    for _ in range(20):
        run_of(make(webhook.url, per_hour_max=2), exits.UNAVAILABLE, "no Redis")
    for _ in range(20):
        run_of(make(webhook.url, per_hour_max=2), exits.UNAVAILABLE, "it loads")
    run_of(make(webhook.url, per_hour_max=2), exits.DONE, is_up=True)
    run_of(make(webhook.url, per_hour_max=4), exits.UNAVAILABLE, "it loads")

    first, second, third, last = webhook.texts
    assert first == "restart ended with exit code 69: no Redis"
    assert second == last == "restart ended with exit code 69: it loads"
    assert third.startswith("up started; the run before ended ")
    assert third.endswith(" with exit code 69: it loads")
    assert [each["type"] for each in webhook.requests] == ["warning", "warning", "info", "warning"]


def test_equal_failures_are_no_losses(webhook: Webhook, make: Make, counted: Counted) -> None:
    """What is known already counts neither as left out nor as dropped."""
    for _ in range(5):
        run_of(make(webhook.url, per_hour_max=2), exits.UNAVAILABLE, "no Redis")
    run_of(make(webhook.url, per_hour_max=2), exits.DONE, is_up=True)

    assert counted("dropped", "restart") == 0
    assert "left out" not in webhook.texts[-1]


def test_a_kill_before_a_failure(webhook: Webhook, make: Make) -> None:
    """The first failure behind a kill tells of that: the next start knows only of the failure."""
    make(webhook.url).start()
    run_of(make(webhook.url), exits.UNAVAILABLE, "no Redis")
    run_of(make(webhook.url), exits.DONE, is_up=True)

    failure, up = webhook.texts
    assert "did not end by itself" in failure
    assert up.endswith("with exit code 69: no Redis")


def test_the_limit_of_a_kind(
    webhook: Webhook, make: Make, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    """Beyond so many within an hour nothing is sent; the first one later tells how many."""
    clock = SimpleNamespace(time_ns=time.time_ns, monotonic=time.monotonic)
    monkeypatch.setattr(notify, "time", clock)
    notifier = make(webhook.url, per_hour_max=2)
    for number in range(5):
        notifier.tell("gap", f"gap {number}")
    notifier.tell("halt", "of another kind")
    webhook.until("another kind")

    clock.time_ns = lambda: time.time_ns() + HOUR_NS
    notifier.tell("gap", "an hour later")

    last = webhook.until("later")
    assert webhook.texts[:-1] == ["gap gap 0", "gap gap 1", "halt of another kind"]
    assert last == "gap an hour later\n(3 before it were left out: notify.per_hour_max)"
    assert counted("dropped", "gap") == 3


def test_the_limit_outlives_the_process(webhook: Webhook, make: Make) -> None:
    """A bridge that starts again and again does not begin to count anew."""
    for number in range(3):
        notifier = make(webhook.url, per_hour_max=2)
        notifier.tell("restart", f"start {number}")
        notifier.end(exits.DONE)

    assert webhook.texts == ["restart start 0", "restart start 1"]


def test_a_text_that_cannot_be_made(webhook: Webhook, make: Make) -> None:
    """Then that is what is told."""

    def broken() -> str:
        raise ValueError("no such table")

    make(webhook.url).tell("summary", broken)
    assert "could not be read: ValueError: no such table" in webhook.until("summary")


def test_a_long_text_is_cut(webhook: Webhook, make: Make) -> None:
    """No service gets more than it takes."""
    make(webhook.url).tell("audit", "x" * 10_000)
    assert webhook.until("audit") == f"audit {'x' * TEXT_MAX} ..."


@pytest.mark.parametrize("code", [500, None], ids=["refused", "nobody there"])
def test_no_secret_is_logged(
    code: int | None, make: Make, logged: io.StringIO, counted: Counted
) -> None:
    """Whatever goes wrong, and however much is logged, nothing that the URL holds is in it."""
    with Webhook(500, 500) as webhook:
        url = webhook.url if code else f"json://127.0.0.1:{free_port()}/{TOKEN}"
        url = url.replace("://", "://me:hunter2%21@") + "?+X-Key=5ecret-header"
        make(url, retry_count_max=1).tell("halt", "now")
        eventually(lambda: counted("failed", "halt") == 1, "the count")

    said = logged.getvalue()
    assert '"url": "1 (json)"' in said
    for secret in (TOKEN, "hunter2", "5ecret", "127.0.0.1"):
        assert secret not in said


@pytest.mark.parametrize("url", ["nonsense://5ecret/word", "tgram://5ecret"])
def test_a_url_that_apprise_does_not_take(url: str, make: Make, logged: io.StringIO) -> None:
    """The start ends with 78: which one it is, and no part of it, neither there nor in the log."""
    with pytest.raises(Exit) as caught:
        make("json://127.0.0.1", url)

    assert caught.value.code == exits.CONFIGURATION
    assert f"number 2 ({url.partition(':')[0]})" in str(caught.value)
    assert "5ecret" not in str(caught.value) + logged.getvalue()
