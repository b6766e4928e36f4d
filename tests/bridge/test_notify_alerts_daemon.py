"""The daemon and the audit tell a webhook: starts, ends, halts, breaches, gaps, the day's PnL."""

import functools
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge import alerts as alerts_module
from bridge import exits
from bridge import notify as notify_module
from bridge.alerts import Alerts
from bridge.core.control import MODE_KEY
from bridge.core.notices import DAY_NS
from bridge.notify import MEMORY, RUN, Notifier
from bridge.notify_words import STAYS_DOWN
from bridge.notify_words import Run as Lifetime
from bridge.readers import Readers
from tests.bridge.conftest import Run
from tests.bridge.kept import FILLS, Kept, typed
from tests.bridge.processes import Daemon, eventually
from tests.bridge.webhooks import Webhook, need_apprise
from tests.servers import RedisServer, free_port

need_apprise()

DEMO_FILLS = "demo:exec:fills"
IDLE = ("--strategy", "tests.bridge.strategies:Idle")
BUSY = ("--strategy", "tests.bridge.strategies:Busy")


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process an end sends what is left, however slow the machine is."""
    monkeypatch.setattr(notify_module, "CLOSE_SECONDS_MAX", 15.0)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


@pytest.fixture
def kept(redis_server: RedisServer, tmp_path: Path) -> Kept:
    """A bridge has traded, and both readers have taken all of it."""
    kept = Kept(tmp_path / "state", redis_server)
    kept.trade(4)
    kept.read()
    return kept


def test_a_life(
    start: Callable[..., Daemon], redis_server: RedisServer, webhook: Webhook, tmp_path: Path
) -> None:
    """A start, a halt, its end, another halt; killed: the next start tells of that and the halt."""
    client = redis_server.client
    given = {"redis__url": redis_server.url, "notify__urls": webhook.url}
    given |= {"state__directory": str(tmp_path / "state")}
    daemon = start(**given).until_running()
    webhook.until("up started; nothing is known of a run before")
    client.set(MODE_KEY, "halt")
    webhook.until("halt HALTED (mode): mode is halt")
    client.set(MODE_KEY, "normal")
    webhook.until("halt the halt has ended: ACTIVE")
    client.set(MODE_KEY, "halt")
    eventually(lambda: webhook.texts.count("halt HALTED (mode): mode is halt") == 2, "the second")
    assert daemon.metric('nautilus_bridge_notices_sent_total{kind="halt"}') >= 2
    daemon.send(signal.SIGKILL)
    daemon.ended()

    second = start("--takeover", **given).until_running()
    said = webhook.until("up started; the run before", "did not end by itself")
    assert said.splitlines()[1].endswith("(mode): mode is halt")
    assert second.stop().code == exits.DONE
    run = Lifetime.of(json.loads((tmp_path / "state" / RUN).read_text()))
    assert run is not None
    assert (run.ended_ns > run.began_ns, run.code) == (True, exits.DONE)
    assert not [text for text in webhook.texts if "exit code" in text]


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (("--strategy", "tests.bridge.strategies:Raises"), {}, 78, "no market today"),
        (("--strategy", "tests.bridge.strategies:Quits"), {}, 75, ""),
        ((), {"redis__url": "redis://me:hunter2@127.0.0.1:1"}, 69, "redis.url"),
    ],
    ids=["before it runs", "while it runs", "without Redis"],
)
def test_an_end_that_nobody_asked_for(
    start: Callable[..., Daemon],
    webhook: Webhook,
    words: tuple[str, ...],
    settings: dict[str, str],
    code: int,
    said: str,
) -> None:
    """The last notice has the exit code and the reason, and no password."""
    ended = start(*words, notify__urls=webhook.url, **settings).ended()

    assert ended.code == code
    word = "down" if code in STAYS_DOWN else "restart"
    assert webhook.texts[-1].startswith(f"{word} ended with exit code {code}: ")
    was_up = any(text.startswith("up ") for text in webhook.texts)
    assert not was_up or code == exits.RESTART  # which one ended while it ran
    assert said in webhook.texts[-1]
    assert "hunter2" not in webhook.texts[-1]


def test_started_again_and_again(
    start: Callable[..., Daemon],
    make_redis: Callable[..., RedisServer],
    webhook: Webhook,
    tmp_path: Path,
) -> None:
    """While Redis is away each start fails alike: that is told once. When it is back, the next one
    is up, whatever the limit says."""
    server = make_redis()
    server.kill()
    given = {"redis__url": server.url, "state__directory": str(tmp_path / "state")}
    given |= {"notify__urls": webhook.url, "notify__per_hour_max": "1"}
    for _ in range(3):
        assert start(*IDLE, **given).ended().code == exits.UNAVAILABLE
    server.start()
    daemon = start(*IDLE, **given).until_running()
    webhook.until("up started; ", " with exit code 69: ")
    assert daemon.stop().code == exits.DONE

    assert [text.partition(" ")[0] for text in webhook.texts] == ["restart", "up"]


def test_redis_away(
    start: Callable[..., Daemon], make_redis: Callable[..., RedisServer], webhook: Webhook
) -> None:
    """That the gates are closed because Redis takes nothing is told once, and its end."""
    server = make_redis()
    given = {"redis__url": server.url, "notify__urls": webhook.url}
    daemon = start(*IDLE, **given, control__link_timeout_seconds="2").until_running()
    webhook.until("up started")
    server.client.config_set("maxmemory", 1)
    webhook.until("link no order leaves any more", "no write accepted by Redis for 2 s: ")
    before = len(daemon.statuses)
    daemon.until(lambda: len(daemon.statuses) >= before + 2, "another second")
    server.client.config_set("maxmemory", 0)
    webhook.until("link Redis accepts writes again")

    assert [text.partition(" ")[0] for text in webhook.texts] == ["up", "link", "link"]
    assert [each["type"] for each in webhook.requests] == ["info", "failure", "info"]


def test_a_breach(
    start: Callable[..., Daemon], redis_server: RedisServer, webhook: Webhook
) -> None:
    """A limit that is broken is told with what broke it."""
    daemon = start(
        *BUSY,
        redis__url=redis_server.url,
        notify__urls=webhook.url,
        limits__max_drawdown="0",
    )
    daemon.until(lambda: any("breach" in text for text in webhook.texts), "a breach")

    assert "HALTED (breach): max_drawdown: " in webhook.until("breach")


def test_a_webhook_that_hangs(start: Callable[..., Daemon], redis_server: RedisServer) -> None:
    """The daemon trades all the same, and ends in time, with everything published."""
    with Webhook(hangs=True) as stuck:
        daemon = start(*BUSY, redis__url=redis_server.url, notify__urls=stuck.url)
        daemon.until_running()
        eventually(lambda: stuck.texts, "a request")
        before = redis_server.client.xlen(DEMO_FILLS)
        daemon.until(lambda: redis_server.client.xlen(DEMO_FILLS) > before + 3, "fills meanwhile")
        ended = daemon.stop()

    assert (ended.code, ended.complaint) == (exits.DONE, "")
    assert ended.out.endswith("\nstopped; everything is published\n")
    assert daemon.times_logged("notify.unsent", notices=1) == 1


def test_apprise_cannot_read_the_url(run: Run) -> None:
    """The daemon does not start where it cannot notify as it was told to."""
    ended = run(notify__urls="nonsense://5ecret")

    assert ended.code == exits.CONFIGURATION
    assert ended.complaint.startswith("notify.urls: apprise takes no such URL as number 1 (nons")
    assert "5ecret" not in ended.err + ended.out


def test_check_config() -> None:
    """It says so without a start."""
    done = typed("check-config", notify__urls="nonsense://5ecret")

    assert done.code == exits.CONFIGURATION
    assert "number 1 (nonsense)" in done.err


def test_the_summary_that_is_due(
    start: Callable[..., Daemon], webhook: Webhook, kept: Kept
) -> None:
    """What was not told while the bridge was down is told when it runs, once."""
    (kept.rig.folder / MEMORY).write_text(json.dumps({"summary_ns": 1}))
    # Not while this runs.
    summary_at = time.strftime("%H:%M", time.gmtime(time.time() + 12 * 3600))
    given = kept.settings | {"notify__urls": webhook.url, "notify__summary_at": summary_at}
    daemon = start(*IDLE, **given).until_running()
    webhook.until("summary realized on", "open lots now: ")
    before = len(daemon.statuses)
    daemon.until(lambda: len(daemon.statuses) >= before + 2, "another second")
    assert daemon.stop().code == exits.DONE

    assert len([text for text in webhook.texts if text.startswith("summary ")]) == 1


def test_an_end_that_loses_something(
    start: Callable[..., Daemon], make_redis: Callable[..., RedisServer], webhook: Webhook
) -> None:
    """It was asked for, but not like that: how many entries are lost is told."""
    server = make_redis()
    daemon = start(*BUSY, redis__url=server.url, notify__urls=webhook.url).until_running()
    daemon.until(lambda: server.client.xlen(DEMO_FILLS), "a fill")
    server.kill()
    daemon.until(lambda: any(int(each["exec"]) for each in daemon.statuses), "a backlog")

    assert daemon.stop().code == exits.CANNOT_RECORD
    assert "exit code 74: stopped; NOT published, and lost: " in webhook.texts[-1]


def test_what_a_day_made(kept: Kept, webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary has the last value of the day before, when this process has seen that."""
    config = kept.rig.config
    notify = config.notify.model_validate({"urls": [webhook.url]})
    notifier = Notifier(config.model_copy(update={"notify": notify}), None, kept.metrics)
    alerts = Alerts(notifier, kept.places, Readers(kept.places, kept.metrics))
    clock, now_ns = SimpleNamespace(monotonic=time.monotonic), time.time_ns()
    for module in (notify_module, alerts_module):
        monkeypatch.setattr(module, "time", clock)
    for days, made in enumerate((-7.125, 12.345, 99.0)):
        clock.time_ns = functools.partial(int, now_ns + days * DAY_NS)
        kept.metrics.day_pnl.set(made)
        alerts.tick(kept.metrics.snapshot(0), None)
        notifier.drain(10)
    notifier.end(exits.DONE)

    line = "with open positions at their marks, net, in dollars: "
    found = [text.partition(line)[2].partition("\n")[0] for text in webhook.texts]
    assert found == ["-7.12", "12.34"]


def test_gaps(kept: Kept, webhook: Webhook) -> None:
    """Entries that are nowhere are told once, reader by reader."""
    config = kept.rig.config
    notify = config.notify.model_validate({"urls": [webhook.url]})
    notifier = Notifier(config.model_copy(update={"notify": notify}), None, kept.metrics)
    readers = Readers(kept.places, kept.metrics)
    alerts = Alerts(notifier, kept.places, readers)
    kept.trade(3)
    kept.client.xdel(FILLS, kept.client.xrange(FILLS)[-1][0])
    shutil.rmtree(kept.places.journal)
    stopped = threading.Event()
    stopped.set()
    for feed in readers.feeds:
        feed.read(stopped)
    for _ in range(2):
        alerts.tick(kept.metrics.snapshot(0), None)
    kept.metrics.exec_holes.inc(2)
    for _ in range(2):
        alerts.tick(kept.metrics.snapshot(0), None)
    notifier.end(exits.DONE)

    ledger, archive, holes = webhook.texts
    assert ledger.startswith("gap ledger: entries that are nowhere: 1 (before: 0)")
    assert archive.startswith("gap archive: entries that are nowhere: 1 (before: 0)")
    assert holes.endswith("that neither journal nor memory held any more: 2")


def test_what_was_refused(kept: Kept, webhook: Webhook) -> None:
    """Execution events that became no entry, and entries that a reader cannot use, are told once;
    market events that no stream takes are not."""
    config = kept.rig.config
    notify = config.notify.model_validate({"urls": [webhook.url]})
    notifier = Notifier(config.model_copy(update={"notify": notify}), None, kept.metrics)
    alerts = Alerts(notifier, kept.places, Readers(kept.places, kept.metrics))
    kept.metrics.events_refused["full"].inc(2)
    kept.metrics.events_refused["broken"].inc()
    kept.metrics.events_refused["collision"].inc(100)
    kept.metrics.reader_dead["ledger"].inc(4)
    for _ in range(2):
        alerts.tick(kept.metrics.snapshot(0), None)
    notifier.end(exits.DONE)

    dead, lost = webhook.texts
    assert dead.startswith("gap entries that the ledger or the archive cannot use")
    assert dead.endswith(": 4")
    assert lost.startswith("gap events that could not become an entry")
    assert lost.endswith(": 3")


def test_an_audit_that_fails(kept: Kept, webhook: Webhook) -> None:
    """With --notify it is told what is wrong, beside what is printed."""
    kept.client.xdel(FILLS, kept.client.xrange(FILLS)[2][0])
    words = ("audit", "--notify", "--timeout", "0")
    done = typed(*words, notify__urls=webhook.url, **kept.settings)

    assert done.code == exits.FAILED
    assert "1 (first 3) missing in Redis" in done.out
    [head, line] = webhook.texts[0].splitlines()
    assert head == "audit exit code 1: journal, redis, ledger, archive: they do NOT agree"
    assert line == f"{FILLS} of {kept.producer}: 1 (first 3) missing in Redis"


def test_an_audit_that_cannot_be_made(kept: Kept, webhook: Webhook) -> None:
    """Nor is it silent where there is no Redis to compare with."""
    given = kept.settings | {"redis__url": f"redis://127.0.0.1:{free_port()}"}
    done = typed("audit", "--notify", notify__urls=webhook.url, **given)

    assert done.code == exits.UNAVAILABLE
    assert webhook.texts[0].startswith("audit exit code 69: ")


def test_an_audit_that_agrees(kept: Kept, webhook: Webhook) -> None:
    """Nobody is told of it."""
    done = typed("audit", "--notify", notify__urls=webhook.url, **kept.settings)

    assert done.code == exits.DONE
    assert webhook.texts == []


def test_an_audit_with_nobody_to_tell(kept: Kept) -> None:
    """--notify without notify.urls is an error, before anything is read."""
    done = typed("audit", "--notify", **kept.settings)

    assert done.code == exits.CONFIGURATION
    assert "notify.urls is empty" in done.err
