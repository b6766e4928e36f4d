"""How the exec lane travels: numbered batches through a script that takes each number once.

Per stream several batches are in flight. Whatever Redis does not take, for whatever reason: the
stream waits until nothing of it is in flight, claims its mark again, and goes on right behind it,
forward, or backward when Redis has forgotten something.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from bridge import exits
from bridge.claims import Claims
from bridge.core import contract, resp, scripts
from bridge.core.lanes import CannotRecord, ExecLane, Kept
from bridge.core.resp import ProtocolError, Reply, ReplyError
from bridge.disk import Disk
from bridge.exits import Exit
from bridge.journal import Journal, damage
from bridge.lease import Lease
from bridge.link import Link, RedisRefused
from bridge.metrics import Metrics
from bridge.refusals import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, Silence, remedy_of
from bridge.segments import Damaged
from bridge.shipment import Batch, Shipment

log = structlog.get_logger("nautilus_bridge.exec")

# Answers of the scripts that say: ask for the mark and go on behind it.
RESUMING: Final = frozenset({"GAP", "REWOUND", "UNCLAIMED", "FENCED", "NOSCRIPT"})
# Of each stream, so that the trading loop never waits long for us.
BATCHES_PER_TURN_MAX: Final = 4
CHECK_SECONDS_MAX: Final = 1.0
SHIP_DIGEST: Final = scripts.digest(scripts.SHIP)


class ExecShipper:
    """Sends the exec lane, behind the journal where there is one."""

    def __init__(
        self,
        lane: ExecLane,
        metrics: Metrics,
        *,
        scope: str,
        journal: Journal | None,
        lease: Lease | None,
        batch_entries_max: int,
        in_flight_max: int,
    ) -> None:
        self.lane = lane
        self.journal = journal
        self.link: Link
        self.wake: Callable[[], None]
        self.shipments = {kind: Shipment(stream, journal) for kind, stream in lane.streams.items()}
        self._claims = Claims(lane, self.ask, scope=scope, journal=journal, lease=lease)
        for shipment in self.shipments.values():
            shipment.chapters = self._claims.chapters(shipment.stream)
        self._metrics = metrics
        self._batch_entries_max = batch_entries_max
        self._in_flight_max = in_flight_max
        # What Redis owes, oldest first: who takes the answer.
        self._due: deque[Callable[[Reply], None]] = deque()
        self._asked: set[asyncio.Future[Reply]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silence = Silence()
        third = CHECK_SECONDS_MAX if lease is None else lease.milliseconds / 3000
        self._check_seconds = min(CHECK_SECONDS_MAX, third)
        self._disk = None if journal is None else Disk(journal, lambda: self.wake())

    # A connection.

    def ask(self, *words: str) -> asyncio.Future[Reply]:
        """Send a command; its answer is the future's, an error reply is raised as RedisRefused."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)

        def settle(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, ReplyError):
                future.set_exception(RedisRefused(reply))
            else:
                future.set_result(reply)

        self._send(resp.command(*words), settle)
        return future

    async def prepare(self) -> None:
        """Claim every stream on a new connection.

        Raises RedisRefused, Exit: FENCED, or CANNOT_RECORD when the journal does not take it.
        """
        try:
            await self._claims.begin()
        except CannotRecord as error:
            raise Exit(exits.CANNOT_RECORD, f"cannot record execution events: {error}") from None
        for shipment in self.shipments.values():
            await self._claim(shipment)

    def on_down(self) -> None:
        """Nothing is in flight any more: where to go on is asked when there is a connection."""
        for task in self._tasks:
            task.cancel()
        for future in list(self._asked):
            if not future.done():
                future.set_exception(ConnectionResetError("the connection is gone"))
                future.exception()  # nobody may be there to ask any more
        self._due.clear()
        for shipment in self.shipments.values():
            shipment.is_open = False
            shipment.in_flight.clear()
            shipment.refusal = None

    def on_replies(self, replies: Sequence[Reply]) -> None:
        """Hand each answer to who is due for it, oldest first."""
        self._silence.on_answer()
        for reply in replies:
            if not self._due:
                raise ProtocolError("Redis answered what was not asked")
            self._due.popleft()(reply)

    async def watch(self) -> None:
        """Keep the lease, and ask for the marks of idle streams, until cancelled.

        A Redis that was flushed or set back says nothing by itself. Raises Exit (FENCED).
        """
        while True:
            await asyncio.sleep(self._check_seconds)
            if not self.link.is_up:
                continue
            try:
                await self._claims.keep_lease()
                for shipment in self.shipments.values():
                    if shipment.is_open and not shipment.in_flight:
                        shipment.is_open = False
                        await self._claim(shipment)
            except ProtocolError as error:
                self.link.fail(error)
            except (RedisRefused, ConnectionResetError) as error:
                log.warning("exec.not_checked", problem=str(error))
            self.wake()

    # Sending.

    def flush(self) -> bool:
        """Have what is new made durable; send a turn's worth; return whether there is more."""
        if self._disk is not None:
            self._disk.sync_soon()
        if not self.link.is_up:
            return False
        open_ones = [each for each in self.shipments.values() if each.is_open]
        for _ in range(BATCHES_PER_TURN_MAX):
            open_ones = [each for each in open_ones if self._send_batch(each)]
        return bool(open_ones)

    def _send_batch(self, shipment: Shipment) -> bool:
        """Send one batch; False when there is none, or no room for one in flight."""
        room = self._in_flight_max - shipment.entries_in_flight
        if room <= 0:
            return False
        try:
            kept = shipment.next_entries(min(room, self._batch_entries_max))
        except Damaged as error:
            self.link.fail(Exit(exits.BAD_DATA, damage(error)))
            return False
        except OSError as error:
            self.link.fail(Exit(exits.BAD_DATA, f"journal.directory: cannot be read: {error}"))
            return False
        if not kept:
            return False
        base = ""
        if kept[0].seq > shipment.cursor:
            if not self._pass_hole(shipment, kept[0].seq - 1):
                return False
            base = str(shipment.cursor - 1)
            shipment.marks[shipment.producer] = kept[0].seq - 1  # a hole is not published
        batch = Batch(shipment.producer, kept[0].seq, kept[-1].seq, kept[0].appended_ns)
        shipment.cursor = batch.last + 1
        if shipment.is_present:
            shipment.stream.sent = max(shipment.stream.sent, batch.last)
        shipment.in_flight.append(batch)
        call = self._call(shipment, batch, base, kept)
        self._send(call, lambda reply: self._settle(shipment, reply))
        return True

    def _call(self, shipment: Shipment, batch: Batch, base: str, kept: Sequence[Kept]) -> bytes:
        key = shipment.stream.key
        width = kept[0].width + 2 * len(contract.TAIL)
        words = (
            *("EVALSHA", SHIP_DIGEST, "2", key, scripts.mark_key(key)),
            *(self._claims.scope, self._claims.token, batch.producer),
            *(str(batch.first), base, shipment.former, str(width)),
        )
        head = f"*{len(words) + width * len(kept)}\r\n{''.join([resp.bulk(w) for w in words])}"
        return b"".join([head.encode(), *[each.data for each in kept]])

    def _send(self, data: bytes, settle: Callable[[Reply], None]) -> None:
        self._silence.on_write(first=not self._due)
        self._due.append(settle)
        self.link.write(data)

    def _pass_hole(self, shipment: Shipment, last: int) -> bool:
        """Tell of numbers that are nowhere any more; True once that is on the disk."""
        hole = (shipment.producer, last)
        if hole not in shipment.holes:
            first, stream = shipment.cursor, shipment.stream.key
            log.error(
                "exec.hole", stream=stream, producer=shipment.producer, first=first, last=last
            )
            self._metrics.exec_holes.inc(last - first + 1)
            try:
                self.lane.append_always(
                    contract.hole(stream, shipment.producer, first, last, time.time_ns())
                )
            except CannotRecord:
                return False  # the journal has failed, and said so
            shipment.holes[hole] = self.lane.jseq
        return self.journal is None or self.journal.synced >= shipment.holes[hole]

    # What comes of it.

    def _settle(self, shipment: Shipment, reply: Reply) -> None:
        """Take the answer to the oldest batch in flight."""
        batch = shipment.in_flight.popleft()
        if isinstance(reply, ReplyError):
            shipment.is_open = False
            shipment.refusal = shipment.refusal or reply
        elif isinstance(reply, int) and batch.last <= reply < shipment.cursor:
            self._confirm(shipment, batch, reply)
        else:
            raise ProtocolError("Redis answered entries with what is no receipt")
        if shipment.refusal is not None and not shipment.in_flight:
            self._recover(shipment, shipment.refusal)

    def _confirm(self, shipment: Shipment, batch: Batch, mark: int) -> None:
        self._note_mark(shipment, batch.producer, mark)
        shipment.is_refused = False
        if shipment.retry_seconds:
            shipment.retry_seconds = 0.0
            log.info("exec.resumed", stream=shipment.stream.key, seq=batch.first)
        if batch.appended_ns:
            seconds = (time.monotonic_ns() - batch.appended_ns) / 1e9
            self._metrics.publish_latency_seconds["exec"].observe(seconds)

    def _note_mark(self, shipment: Shipment, producer: str, mark: int) -> None:
        """Note what Redis has; what of it is new, and not of an earlier process, is published."""
        count = max(0, mark - shipment.marks.get(producer, mark))
        kind, metrics = shipment.stream.kind, self._metrics
        metrics.exec_published[kind].inc(count)
        if kind == "orders":
            metrics.orders_published.inc(count)
        elif kind == "fills":
            metrics.fills_published.inc(count)
        shipment.marks[producer] = mark
        if producer == self.lane.producer:
            shipment.stream.acknowledge(mark)
        if self.journal is not None:
            self.journal.acknowledge(producer, shipment.stream.kind, mark)

    def _recover(self, shipment: Shipment, error: ReplyError) -> None:
        """Claim the stream again: at once where the answer only asks for that, else later."""
        again = shipment.retry_seconds
        key = shipment.stream.key
        shipment.is_refused = True
        if error.code in RESUMING:
            log.info("exec.resuming", stream=key, why=error.message)
        else:
            self._metrics.redis_errors[error.kind].inc()
            if not again:
                log.error(
                    "exec.refused",
                    stream=key,
                    problem=error.message,
                    kept=True,
                    remedy=remedy_of(error.kind),
                )
        delay = 0.0 if error.code in RESUMING and not again else max(again, RETRY_SECONDS_MIN)
        shipment.retry_seconds = min(max(again, RETRY_SECONDS_MIN / 2) * 2, RETRY_SECONDS_MAX)
        self._start(self._claim_again(shipment, error, delay))
        if error.is_elsewhere:
            self.link.drop()  # the name may lead to the new primary by now

    async def _claim_again(self, shipment: Shipment, error: ReplyError, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            await self._claims.keep_lease()
            if error.code == "NOSCRIPT":
                await self._claims.load()
        except RedisRefused as refused:
            self._recover(shipment, refused.error)
            return
        await self._claim(shipment)
        self.wake()

    async def _claim(self, shipment: Shipment) -> None:
        """Ask for the marks of a stream and go on behind them; a refusal is tried again."""
        chapters = self._claims.chapters(shipment.stream)
        try:
            marks = await self._claims.marks(
                shipment.stream, [chapter.producer for chapter in chapters]
            )
        except RedisRefused as refused:
            self._recover(shipment, refused.error)
            return
        for producer, mark in marks.items():
            self._note_mark(shipment, producer, mark)
        # What is neither there nor here is no backlog: it is a hole, told when something follows.
        shipment.stream.acknowledge(max(marks[self.lane.producer], chapters[-1].first - 1))
        if marks[self.lane.producer] > shipment.stream.seq:
            raise Exit(
                exits.FENCED,
                f"{shipment.stream.key} holds numbers of {self.lane.producer} that were never "
                "given here: another bridge uses a copy of the journal",
            )
        shipment.resume(chapters, marks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.link.fail(error)

    # How it stands.

    def close(self) -> None:
        """End the thread that waits for the disk."""
        if self._disk is not None:
            self._disk.close()

    @property
    def backlog(self) -> int:
        """Entries that Redis has not confirmed, those of former producers included."""
        older = [shipment.older_backlog for shipment in self.shipments.values()]
        return self.lane.backlog + sum(older)

    @property
    def in_flight(self) -> int:
        """Entries on the wire."""
        return sum([each.entries_in_flight for each in self.shipments.values()])

    @property
    def silent_seconds(self) -> float:
        """For how long Redis has owed an answer, 0 when it owes none."""
        return self._silence.seconds if self._due else 0.0

    @property
    def problem(self) -> str | None:
        """Which streams Redis refuses at present, None when it refuses none."""
        refused = [each.stream.key for each in self.shipments.values() if each.is_refused]
        return f"Redis refuses entries of {', '.join(refused)}" if refused else None
