"""Redis Sentinel: who the primary of a service is at this moment."""

import asyncio
import concurrent.futures
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import redis
import structlog

from bridge import resolving
from bridge.core import resp
from bridge.core.resp import ProtocolError, Reply, ReplyError, ReplyParser
from bridge.target import Target

log = structlog.get_logger("nautilus_bridge.sentinel")

# One that is away without saying so must not delay a failover for long: all are waited for for so
# long; once most have answered, the others only for a moment.
ANSWER_SECONDS_MAX: Final = 1.0
LATE_SECONDS_MAX: Final = 0.1
READ_BYTES: Final = 4096
PORTS: Final = range(1, 1 << 16)


class NotLocated(redis.exceptions.ConnectionError):
    """No Sentinel names the primary, and it never was known."""


class SentinelRefused(NotLocated):
    """No Sentinel names the primary: one at least does not let in who asks."""


class _Refused(Exception):
    """A Sentinel has answered with an error."""

    def __init__(self, error: ReplyError) -> None:
        super().__init__(error.message)
        self.is_auth = error.kind == "auth"


NO_ANSWER: Final = (OSError, ProtocolError, _Refused)
NO_EPOCH: Final = -1


class Named(NamedTuple):
    """The primary that a Sentinel names, and the `epoch` of the election that made it one:
    NO_EPOCH where the Sentinel may not be asked for it."""

    epoch: int
    target: Target


class Sentinel:
    """The primary of a service, wherever its Sentinels say that it is.

    `primary` is how to get in there, `sentinels` are asked. All of a process share one: so what was
    known last holds for all while too few Sentinels answer, and `problem` says so.
    """

    def __init__(self, sentinels: Sequence[Target], service: str, primary: Target) -> None:
        self.service = service
        self.primary = primary
        self.db = primary.db
        self.problem = ""
        self._sentinels = tuple(dict.fromkeys(sentinels))  # one that is named twice is still one
        self._known: Named | None = None
        self._known_at = 0.0

    @property
    def where(self) -> str:
        """The addresses, fit to be logged."""
        return f"{','.join([each.where for each in self._sentinels])}/{self.service}"

    def without_secrets(self, text: str) -> str:
        """Return what Redis or a Sentinel said without the passwords."""
        return self._sentinels[0].without_secrets(self.primary.without_secrets(text))

    async def locate(self, age_seconds_max: float = 0.0) -> Target:
        """Return where the primary is: by the latest election that a Sentinel knows of, now or a
        moment ago. A Sentinel that is cut off from the others knows of an older one.

        Where most do not answer, the primary counts as being where it was last, unless one of the
        others knows of a later election. Raises NotLocated when it was nowhere yet.
        """
        if self._known is not None and time.monotonic() - self._known_at < age_seconds_max:
            return self._known.target
        return self._judge(await self._ask_all())

    def locate_now(self, age_seconds_max: float = 0.0) -> Target:
        """Do as `locate` does, where it may block."""
        if self._known is not None and time.monotonic() - self._known_at < age_seconds_max:
            return self._known.target
        with concurrent.futures.ThreadPoolExecutor(1) as thread:  # this one may have a loop
            return self._judge(thread.submit(lambda: asyncio.run(self._ask_all())).result())

    # Asking.

    @property
    def _majority(self) -> int:
        return len(self._sentinels) // 2 + 1

    async def _ask_all(self) -> dict[str, Named | Exception]:
        """Return what each Sentinel says, or why it says nothing, by its address."""
        now = asyncio.get_running_loop().time
        tasks = {each.where: asyncio.ensure_future(self._ask(each)) for each in self._sentinels}
        waiting, until = set(tasks.values()), now() + ANSWER_SECONDS_MAX
        try:
            while waiting and (left := until - now()) > 0:
                done, waiting = await asyncio.wait(
                    waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                named = [t for t in tasks.values() if t.done() and t.exception() is None]
                if done and len(named) >= self._majority:
                    until = min(until, now() + LATE_SECONDS_MAX)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.wait(tasks.values())
        return {where: _said(task) for where, task in tasks.items()}

    async def _ask(self, sentinel: Target) -> Named:
        """Ask one Sentinel. Raises one of NO_ANSWER."""
        # The epoch first: where the primary changes in between, its address is not the old one.
        questions = (
            *sentinel.greeting(),
            ("SENTINEL", "MASTER", self.service),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service),
        )
        *greeted, told, address = await _answers_of(sentinel, questions)
        for answer in (*greeted, address):
            if isinstance(answer, ReplyError):
                raise _Refused(answer)
        match address:
            case [bytes() as host, bytes() as port]:
                target = replace(self.primary, host=_host(host), port=_port(port))
            case None:
                raise ProtocolError(f"it knows no service {self.service}")
            case _:
                raise ProtocolError("it does not answer like a Sentinel")
        return Named(_epoch(told), target)

    # Judging.

    def _judge(self, said: Mapping[str, Named | Exception]) -> Target:
        """Return where the primary is by what Sentinels said. Raises NotLocated."""
        named = [each for each in said.values() if isinstance(each, Named)]
        failures = {w: each for w, each in said.items() if isinstance(each, Exception)}
        known, are_enough = self._known, len(named) >= self._majority
        candidates = named if are_enough or known is None else [known, *named]
        if not candidates:
            raise self._not_located(failures)
        # Of one election the most, then where it was: the first of equals.
        places = [each.target for each in candidates]
        found = max(
            candidates,
            key=lambda it: (it.epoch, places.count(it.target), known and it.target == known.target),
        )
        if not are_enough:
            found = found if known is None or found.epoch > known.epoch else known
        if known is not None and known.target != found.target:
            log.warning("sentinel.moved", service=self.service, primary=found.target.where)
        problem = "" if are_enough else f"{self._too_few(failures)}; it was at {found.target.where}"
        if problem and not self.problem:
            log.warning("sentinel.silent", problem=problem, primary=found.target.where)
        self._known, self._known_at, self.problem = found, time.monotonic(), problem
        return found.target

    def _too_few(self, failures: Mapping[str, Exception]) -> str:
        said = [
            f"{where}: {self.without_secrets(_words(error))}" for where, error in failures.items()
        ]
        count = len(self._sentinels) - len(failures)
        who = (
            f"only {count} of {len(self._sentinels)} Sentinels name"
            if count
            else "no Sentinel names"
        )
        return f"{who} the primary of {self.service}: {', '.join(said)}"

    def _not_located(self, failures: Mapping[str, Exception]) -> NotLocated:
        errors = failures.values()
        is_refused = any(isinstance(error, _Refused) and error.is_auth for error in errors)
        return (SentinelRefused if is_refused else NotLocated)(self._too_few(failures))


def _said(task: asyncio.Task[Named]) -> Named | Exception:
    """Return what came of asking. Raises what is a fault of ours."""
    if task.cancelled():
        return TimeoutError()
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, NO_ANSWER):
        return error
    raise error


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "Connection refused"  # asyncio repeats the address, which stands before it
    return str(error) or "no answer"


def _host(raw: bytes) -> str:
    try:
        host = raw.decode()
        host.encode("idna")  # what no name can be fails there, each time it is looked up
    except UnicodeError:
        host = ""
    if not (host and host.isprintable()):
        raise ProtocolError("it names a primary whose host cannot be one")
    return host


def _port(raw: bytes) -> int:
    if not (raw.isdigit() and len(raw) <= len("65535") and int(raw) in PORTS):
        raise ProtocolError("it names a primary whose port cannot be one")
    return int(raw)


def _epoch(told: Reply) -> int:
    """Return the epoch in the names and values that SENTINEL MASTER answers, in turn."""
    values = told if isinstance(told, list) else []
    for name, value in zip(values[::2], values[1::2], strict=False):
        if name == b"config-epoch" and isinstance(value, bytes) and value.isdigit():
            return int(value[:20])
    return NO_EPOCH


async def _answers_of(sentinel: Target, commands: Sequence[tuple[str, ...]]) -> list[Reply]:
    """Return the answers. Raises OSError, ProtocolError."""
    parser, answers = ReplyParser(), list[Reply]()
    name = sentinel.host if sentinel.tls else None
    reader, writer = await resolving.connected(
        sentinel.host,
        lambda address: asyncio.open_connection(
            address, sentinel.port, ssl=sentinel.tls, server_hostname=name
        ),
    )
    try:
        writer.write(b"".join([resp.command(*words) for words in commands]))
        while len(answers) < len(commands):
            data = await reader.read(READ_BYTES)
            if not data:
                raise ConnectionResetError("it hangs up")
            answers += parser.feed(data)
    finally:
        writer.transport.abort()
    return answers
