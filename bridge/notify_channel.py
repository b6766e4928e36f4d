"""One URL that notices go to, by way of apprise; and the queue with a thread that it has.

apprise is imported with the first channel: a bridge that notifies nobody does without it.
"""

import importlib
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import structlog

from bridge import exits
from bridge.core.notices import Kind
from bridge.exits import Exit
from bridge.log import MASK
from bridge.metrics import Metrics
from bridge.notify_settings import NotifySettings

log = structlog.get_logger("nautilus_bridge.notify")

# Notices that wait; beyond it the oldest are dropped.
WAITING_MAX: Final = 100
# apprise waits 4 s for each part of an answer; one that comes in small parts may take for ever.
SEND_SECONDS_MAX: Final = 30.0
RETRY_SECONDS_MIN: Final = 1.0
SECRET_LENGTH_MIN: Final = 4
# They log URLs, those that cannot be read and those that were asked.
TALKATIVE: Final = ("apprise", "urllib3")
TYPES: Final[dict[Kind, str]] = {
    "halt": "warning",
    "breach": "failure",
    "gap": "failure",
    "link": "failure",
    "restart": "warning",
    "audit": "failure",
    "summary": "info",
}


class Notice(NamedTuple):
    """A message. `text` may be made only when it is sent, off the thread that tells.

    `trouble`: what it tells of, empty: of the end of that; None where a kind has no such end.
    """

    kind: Kind
    title: str
    text: str | Callable[[], str]
    at_ns: int
    type: str
    trouble: str | None = None


class Outbox:
    """A bounded queue of notices, and a thread that handles them, one at a time, in order.

    `handle` must not raise; `drop` gets the oldest when there is no room.
    """

    def __init__(
        self, name: str, handle: Callable[[Notice], None], drop: Callable[[Notice], None]
    ) -> None:
        self._handle = handle
        self._drop = drop
        self._waiting: deque[Notice] = deque()
        self._is_handling = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, notice: Notice) -> None:
        """Leave a notice to the thread."""
        with self._changed:
            oldest = self._waiting.popleft() if len(self._waiting) == WAITING_MAX else None
            self._waiting.append(notice)
            self._changed.notify_all()
        if oldest is not None:
            self._drop(oldest)

    def drain(self, deadline: float) -> int:
        """Wait until all is handled, or until `deadline` (monotonic); return how many are not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._left, max(0.0, deadline - time.monotonic()))
            return self._left

    @property
    def _left(self) -> int:
        return len(self._waiting) + self._is_handling

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_handling = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                notice, self._is_handling = self._waiting.popleft(), True
            self._handle(notice)


class Channel:
    """Sends to one URL, again and again until it is taken or `closing` is set.

    `number` is its place in notify.urls: of the URL itself nothing is ever logged but the scheme.
    """

    def __init__(
        self,
        number: int,
        url: str,
        settings: NotifySettings,
        metrics: Metrics,
        closing: threading.Event,
    ) -> None:
        self.name = _name(number, url)
        self._settings = settings
        self._metrics = metrics
        self._closing = closing
        self._secrets = [part for part in _parts(url) if len(part) >= SECRET_LENGTH_MIN]
        self._service = service(number, url)
        self._attempt: threading.Thread | None = None
        self.outbox = Outbox(f"bridge.notify.{number}", self._send, self._drop)

    def _send(self, notice: Notice) -> None:
        settings = self._settings
        pauses = (
            min(RETRY_SECONDS_MIN * 2**tries, settings.retry_seconds_max)
            for tries in range(settings.retry_count_max)
        )
        while True:
            is_last = self._closing.is_set()
            problem = self.refusal(notice.title, str(notice.text), notice.type)
            if problem is None:
                self._metrics.notices_sent[notice.kind].inc()
                return
            pause = next(pauses, None)
            if is_last or pause is None:
                self._metrics.notices_failed[notice.kind].inc()
                log.error("notify.failed", kind=notice.kind, url=self.name, problem=problem)
                return
            log.warning("notify.refused", kind=notice.kind, url=self.name, problem=problem)
            self._closing.wait(pause)

    def refusal(self, title: str, text: str, type_: str) -> str | None:
        """Send once; return why it was not taken, None when it was.

        While an attempt that was left behind goes on, there is no other: each has a socket.
        """
        if self._attempt is not None and self._attempt.is_alive():
            return "the attempt before still hangs"
        problems = [f"no answer within {SEND_SECONDS_MAX:g} s"]

        def attempt() -> None:
            try:
                said = self._service.notify(
                    body=text,
                    title=title,
                    notify_type=type_,
                    body_format="text",
                )
                refused = [entry.message for entry in said.logs()] or ["it was not taken"]
                problems[:] = [] if said else refused[-1:]
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                problems[:] = [f"{type(error).__name__}: {error}"]

        # A thread that can be left behind: this one has more to send.
        name = "bridge.notify.attempt"
        self._attempt = threading.Thread(target=attempt, name=name, daemon=True)
        self._attempt.start()
        self._attempt.join(SEND_SECONDS_MAX)
        found = "".join(problems)
        return self._masked(found) if found else None

    def _masked(self, text: str) -> str:
        """Return a text without what only the URL tells."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _drop(self, notice: Notice) -> None:
        self._metrics.notices_dropped[notice.kind].inc()


def _parts(url: str) -> list[str]:
    """Return what stands in a URL behind its scheme, as it is written and as it is meant; the
    longest first: one may be a part of another."""
    rest = url.partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in re.split(r"[^\w.+-]+", text)}
    return sorted(parts, key=len, reverse=True)


def _name(number: int, url: str) -> str:
    return f"{number} ({url.partition('://')[0]})"


def service(number: int, url: str) -> Any:
    """Return apprise's sender for the URL of that number. Raises Exit (CONFIGURATION)."""
    try:
        apprise = importlib.import_module("apprise")
    except ModuleNotFoundError as error:
        raise Exit(
            exits.CONFIGURATION,
            f"notify.urls: {error.name} is not installed; install requirements.txt again, or unset "
            "notify.urls",
        ) from None
    for each in TALKATIVE:
        logger = logging.getLogger(each)
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    # Without a limit of its own: that leaves a thread behind which the end of Python waits for.
    asset = apprise.AppriseAsset(
        app_id="nautilus-redis-bridge", storage_mode="memory", service_timeout=0
    )
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        raise Exit(
            exits.CONFIGURATION,
            f"notify.urls: apprise takes no such URL as number {_name(number, url)}; its wiki "
            "shows the form of each service",
        )
    sender = apprise.Apprise(asset=asset)
    sender.add(plugin)
    return sender
