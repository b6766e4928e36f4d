"""Alerts out: what a person must know at once, sent to chats, mail or webhooks.

Whoever tells something goes on at once, also the loop that trades. A thread decides what is sent,
and another one for each URL sends it: a URL that hangs delays neither the others nor, beyond
CLOSE_SECONDS_MAX, the end.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import structlog

from bridge import exits, notify_words
from bridge.core import notices
from bridge.core.control import Halt
from bridge.core.notices import Kind, Memory
from bridge.exits import Exit
from bridge.log import mask_urls
from bridge.metrics import Metrics
from bridge.notify_channel import TYPES, Channel, Notice, Outbox
from bridge.notify_words import Run
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.notify")

RUN: Final = "run.json"
MEMORY: Final = "notify.json"
# Discord takes no more than 2000 characters, with the title.
TEXT_MAX: Final = 1_500
CLOSE_SECONDS_MAX: Final = 2.0


class Notifier:
    """Tells people; does nothing at all while `notify.urls` is empty.

    `state` is the folder where it keeps what was sent, at `memory`, and how the run ended; None:
    nowhere. Raises Exit (CONFIGURATION) for a URL that apprise does not take.
    """

    def __init__(
        self, config: Config, state: Path | None, metrics: Metrics, *, memory: str = MEMORY
    ) -> None:
        settings = self._settings = config.notify
        self.metrics = metrics
        self._where = f"{config.role} {config.producer_id} on {socket.gethostname()}"
        self._state = state
        self._memory_name = memory
        self._memory = Memory.of(self._kept(memory))
        self._run = Run(began_ns=time.time_ns())
        self._before: Run | None = None
        self._has_started = self._is_up = False
        began_ns = self._run.began_ns
        self._summary_ns = min(self._memory.summary_ns or began_ns, began_ns)
        self._memory.summary_ns = self._summary_ns
        self._closing = threading.Event()
        self._channels = [
            Channel(number, url.get_secret_value(), settings, metrics, self._closing)
            for number, url in enumerate(settings.urls, start=1)
        ]
        self._desk = Outbox("bridge.notify", self._admit, self._drop) if self._channels else None

    def tell(
        self,
        kind: Kind,
        text: str | Callable[[], str],
        *,
        trouble: str | None = None,
        as_: tuple[str, str] | None = None,
    ) -> None:
        """Have it sent; a text that takes time to make is made by the thread that sends.

        `trouble`: what it tells of; the same again is not sent before its end was, and that,
        empty, is sent beyond the limit. `as_`: another title and type than those of the kind.
        """
        if self._desk is not None and kind in self._settings.kinds:
            word, type_ = as_ or (kind, TYPES[kind])
            title = f"{self._where}: {word}"
            self._desk.put(Notice(kind, title, text, time.time_ns(), type_, trouble))

    def tick(self, summary: Callable[[], str]) -> None:
        """Have the daily summary sent when it is time to. To be called every second or so."""
        now_ns = time.time_ns()
        if notices.last_time_ns(self._settings.summary_at, now_ns) > self._summary_ns:
            self._summary_ns = now_ns
            self.tell("summary", summary)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Tell how the body ends, unless it was asked to, or `end` has told before."""
        try:
            yield
        except BaseException as error:
            self.end(*ended(error))
            raise
        else:
            self.end(exits.DONE)

    def start(self) -> None:
        """Keep that a run has begun, which may be killed. To be called when the folder is ours."""
        self._before = Run.of(self._kept(RUN))
        self._has_started = True
        self._keep(RUN, self._run._asdict())

    def up(self, halt: Callable[[], Halt | None]) -> None:
        """Tell that it is up, how the run before ended, and of a halt that holds.

        Only the first call counts.
        """
        if not self._is_up:
            self._is_up = True
            said = notify_words.start(self._before, halt())
            self.tell("restart", said, trouble="", as_=("up", "info"))

    def end(self, code: int, reason: str = "") -> None:
        """Keep how the run ended, tell of it unless it was asked to, and send what is left.

        What ends as the run before did is not told again, unless one was up in between. Takes up
        to CLOSE_SECONDS_MAX. Only the first call counts.
        """
        if self._closing.is_set():
            return
        reason = mask_urls(reason)
        self._run = self._run._replace(ended_ns=time.time_ns(), code=code, reason=reason)
        if self._has_started:
            self._keep(RUN, self._run._asdict())
        if code != exits.DONE:
            self._tell_failure(code, reason)
        self._closing.set()  # from now on each is tried once more, at once
        self.drain(CLOSE_SECONDS_MAX)

    def _tell_failure(self, code: int, reason: str) -> None:
        text = trouble = notify_words.failure(code, reason)
        if not self._is_up and self._before is not None and not self._before.ended_ns:
            text += f"\n{notify_words.end_of(self._before)}"
        stays = code in notify_words.STAYS_DOWN
        as_ = ("down", "failure") if stays else None
        self.tell("restart", text, trouble=trouble, as_=as_)

    def drain(self, seconds_max: float) -> None:
        """Wait until all was sent or given up, or for so long."""
        if self._desk is None:
            return
        deadline = time.monotonic() + seconds_max
        left = self._desk.drain(deadline)
        left += sum([channel.outbox.drain(deadline) for channel in self._channels])
        if left:
            log.error("notify.unsent", notices=left, problem=f"not within {seconds_max:g} s")

    def _admit(self, notice: Notice) -> None:
        """Send it to all URLs, if there were not too many of its kind."""
        kind, at_ns, trouble = notice.kind, notice.at_ns, notice.trouble
        if self._memory.knows(kind, trouble):
            return
        left_out = self._memory.admit(kind, at_ns, self._settings.per_hour_max, trouble)
        self._keep(self._memory_name, self._memory.as_dict())
        if left_out is None:
            self.metrics.notices_dropped[kind].inc()
            return
        text = notice.text if isinstance(notice.text, str) else _made(notice.text)
        if len(text) > TEXT_MAX:
            text = f"{text[:TEXT_MAX]} ..."
        if left_out:
            text += f"\n({left_out} before it were left out: notify.per_hour_max)"
        for channel in self._channels:
            channel.outbox.put(notice._replace(text=text))

    def _drop(self, notice: Notice) -> None:
        self.metrics.notices_dropped[notice.kind].inc()

    def _keep(self, name: str, values: dict[str, object]) -> None:
        if self._state is None or self._desk is None:
            return
        path = self._state / name
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(values))
            fresh.rename(path)
        except OSError as error:
            log.warning("notify.not_kept", path=str(path), problem=str(error))

    def _kept(self, name: str) -> object:
        """Return the JSON in a file; None where there is none, or something else."""
        if self._state is None:
            return None
        try:
            return json.loads((self._state / name).read_text())
        except (OSError, ValueError, RecursionError):
            return None


def _made(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - whatever it is, a person is to be told of it
        return f"what was to be told could not be read: {type(error).__name__}: {error}"


def ended(error: BaseException) -> tuple[int, str]:
    """Return the exit code that an error leads to, and what to say of it."""
    if isinstance(error, KeyboardInterrupt):
        return exits.DONE, ""
    if isinstance(error, Exit):
        return error.code, str(error)
    return exits.FAILED, f"{type(error).__name__}: {error}"
