"""What the exec lane settles with Redis before it ships: who may write, and what is there already.

Everything here is asked on the exec lane's own connection, by `ask`, which sends a command and
returns its answer; an error reply is raised as RedisRefused.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Final, Protocol

import structlog

from bridge.core import resp, scripts
from bridge.core.lanes import ExecLane, ExecStream, Held, Kept
from bridge.core.resp import ProtocolError, Reply
from bridge.journal import Chapter, Journal
from bridge.journal_reader import Reader
from bridge.lease import Lease
from bridge.link import RedisRefused

log = structlog.get_logger("nautilus_bridge.claims")

SEARCH_ENTRIES: Final = 200
REWRITE_POLL_SECONDS: Final = 0.05
REWRITE_RETRY_SECONDS: Final = 1.0


class Ask(Protocol):
    def __call__(self, *words: str) -> Awaitable[Reply]: ...


class Claims:
    """The claims of one lane. `scope` names whose they are: one owner at a time in each."""

    def __init__(
        self,
        lane: ExecLane,
        ask: Ask,
        *,
        scope: str,
        journal: Journal | None,
        lease: Lease | None,
    ) -> None:
        self.scope = scope
        self.token = ""
        self._lane = lane
        self._ask = ask
        self._journal = journal
        self._lease = lease
        self._run_id = None if journal is None else journal.run_id
        self._may_ask = True
        # By kind, the id of our mark, and up to where nothing of ours was found behind it.
        self._looked: dict[str, tuple[str, str]] = {}

    async def begin(self) -> None:
        """Prepare a new connection. Raises RedisRefused, Exit (FENCED), JournalFailed."""
        self._looked.clear()
        await self._make_whole()
        await self.keep_lease()
        # One for each connection: what an older one still has in the server's buffers is fenced.
        self.token = secrets.token_hex(8)
        await self.load()
        if self._journal is not None and not self._journal.is_claimed:
            await self._verify(self._journal)

    async def keep_lease(self) -> None:
        """Renew the lease, where there is one. Raises RedisRefused, Exit (FENCED)."""
        if self._lease is not None:
            await self._lease.renew(self._ask)

    async def load(self) -> None:
        """Have Redis know the scripts. Raises RedisRefused."""
        for script in (scripts.CLAIM, scripts.REMARK, scripts.SHIP):
            await self._ask("SCRIPT", "LOAD", script)

    def chapters(self, stream: ExecStream) -> list[Chapter]:
        """Return what may have to be shipped, oldest producer first; the present one is last."""
        lane = self._lane
        if self._journal is None:
            return [Chapter(lane.producer, 1, 0)]
        return [
            each
            for each in self._journal.chapters(stream.kind)
            if each.last >= each.first or each.producer == lane.producer
        ]

    async def marks(self, stream: ExecStream, producers: Sequence[str]) -> dict[str, int]:
        """Own the stream; return the last number of each producer that is in it.

        Raises RedisRefused.
        """
        keys = (stream.key, scripts.mark_key(stream.key))
        digest = scripts.digest(scripts.CLAIM)
        answers = await self._ask("EVALSHA", digest, "2", *keys, self.scope, self.token, *producers)
        if not isinstance(answers, list) or len(answers) != len(producers):
            raise ProtocolError("Redis answered a claim with what is none")
        said = dict(zip(producers, map(_text, answers), strict=True))
        marks = {
            name: int(text.partition(" ")[0]) for name, text in said.items() if text[:1].isdecimal()
        }
        marks |= {name: 0 for name, text in said.items() if text == "absent"}
        unsure = [
            name
            for name, text in said.items()
            if text == "rewound" or (text == "none" and self._may_be_there(stream, name))
        ]
        marks |= {name: 0 for name, text in said.items() if text == "none" and name not in unsure}
        present = self._lane.producer
        if marks.get(present) and await self._is_set_back(stream, said[present]):
            unsure.append(present)
        if unsure:
            marks |= await self._remark(stream, unsure)
        return marks

    async def _remark(self, stream: ExecStream, producers: Sequence[str]) -> dict[str, int]:
        """Set marks anew from the stream's own entries; return them."""
        found = dict.fromkeys(producers, (0, "0-0"))
        missing = set(producers)
        async for entry_id, producer, seq in self._search(stream.key, producers):
            if producer in missing:
                found[producer] = (seq, entry_id)
                missing.discard(producer)
                if not missing:
                    break
        keys = (stream.key, scripts.mark_key(stream.key))
        for name, (seq, entry_id) in found.items():
            words = (self.scope, self.token, name, str(seq), entry_id)
            try:
                await self._ask("EVALSHA", scripts.digest(scripts.REMARK), "2", *keys, *words)
            except RedisRefused:
                if seq:
                    raise
                continue  # without memory: that there is nothing is searched for again
            log.warning("exec.mark_rebuilt", stream=stream.key, producer=name, seq=seq)
        return {name: seq for name, (seq, _) in found.items()}

    def _may_be_there(self, stream: ExecStream, producer: str) -> bool:
        """Whether a stream without our mark can hold entries of ours: a search may be long."""
        if producer != self._lane.producer:
            return True
        opened = 0 if self._journal is None else self._journal.opened.get(stream.kind, 0)
        return stream.sent > 0 or opened > 0

    async def _is_set_back(self, stream: ExecStream, answer: str) -> bool:
        """Return whether the stream holds entries of ours behind our mark, as when a slot is moved
        by copies of two moments. What others wrote behind the mark is looked at once."""
        seq, *places = answer.split()
        if not places or self._looked.get(stream.kind) == tuple(places):
            return False
        mark_id, last_id = places
        marked, looked = self._looked.get(stream.kind, ("", ""))
        begin = looked if marked == mark_id else mark_id
        async for _, _, number in self._search(stream.key, [self._lane.producer], f"({begin}"):
            if number > int(seq):
                return True
        self._looked[stream.kind] = (mark_id, last_id)
        return False

    async def _search(
        self, key: str, producers: Sequence[str], begin: str = "-"
    ) -> AsyncIterator[tuple[str, str, int]]:
        """Yield id, producer and number of these producers' entries, the newest first."""
        end = "+"
        while True:
            words = (key, end, begin, str(SEARCH_ENTRIES), *producers)
            answer = await self._ask("EVAL", scripts.SEARCH, "1", *words)
            if not isinstance(answer, list) or not answer:
                raise ProtocolError("Redis answered a search with what is none")
            oldest, *found = map(_text, answer)
            for place in range(0, len(found), 3):
                yield found[place], found[place + 1], int(found[place + 2])
            if not oldest:
                return
            end = f"({oldest}"

    # Numbers that somebody else may have given.

    async def _verify(self, journal: Journal) -> None:
        """Make sure that this session's numbers are its own, and note it in the journal.

        Raises RedisRefused, JournalFailed.
        """
        while True:
            marks = await self._present_marks()
            foreign = {
                kind: seq for kind, seq in marks.items() if seq > journal.head.verified.get(kind, 0)
            }
            if not foreign:
                break
            known = dict(journal.head.verified)
            for kind in foreign:
                known[kind] = await self._common(journal, kind)
            if all(known[kind] >= seq for kind, seq in foreign.items()):
                break
            log.warning("journal.behind_redis", producer=journal.producer, **foreign)
            incarnation = await self._free_incarnation(journal)
            with self._lane.numbering:
                journal.renumber(known, incarnation)
                self._lane.begin(held_by(journal))
        with self._lane.numbering:
            journal.claim()
        await asyncio.to_thread(journal.sync)

    async def _present_marks(self) -> dict[str, int]:
        """Return, by kind, the last number of the present producer that Redis knows."""
        marks = {}
        for stream in self._lane.streams.values():
            producer = self._lane.producer
            try:
                marks[stream.kind] = (await self.marks(stream, [producer]))[producer]
            except RedisRefused:  # a stream that is no stream must not stop the others
                marks[stream.kind] = await self._plain_mark(stream, producer)
        return marks

    async def _plain_mark(self, stream: ExecStream, producer: str) -> int:
        try:
            text = await self._ask("HGET", scripts.mark_key(stream.key), producer)
        except RedisRefused:
            return 0
        return 0 if text is None else int(_text(text).partition(" ")[0])

    async def _common(self, journal: Journal, kind: str) -> int:
        """Return up to which number what Redis has is what the journal has.

        What was trimmed from the stream counts as equal when what is left of it is.
        """
        known, key = journal.head.verified.get(kind, 0), self._lane.streams[kind].key
        there: dict[int, str] = {}
        try:
            async for entry_id, _, seq in self._search(key, [journal.producer]):
                if seq <= known:
                    break
                there[seq] = entry_id
            oldest = min(there, default=0)
            reader = Reader(journal, journal.producer, kind)
            for kept in reader.read(known + 1, max(there, default=0) - known, None):
                if kept.seq < oldest:
                    continue
                if not await self._is_there(key, there, kept):
                    break
                known = kept.seq
        except RedisRefused:  # no stream: nothing in it is ours
            pass
        return known

    async def _is_there(self, key: str, there: dict[int, str], kept: Kept) -> bool:
        """Return whether Redis holds this very entry."""
        entry_id = there.get(kept.seq)
        if entry_id is None:
            return False
        rows = await self._ask("XRANGE", key, entry_id, entry_id)
        if not (isinstance(rows, list) and rows and isinstance(rows[0], list)):
            return False
        words = rows[0][1]
        texts = list(map(_text, words)) if isinstance(words, list) else []
        return dict(zip(texts[::2], texts[1::2], strict=True)) == resp.pairs(kept.data)

    async def _free_incarnation(self, journal: Journal) -> int:
        """Return the next number of an incarnation that Redis has not seen in any stream."""
        incarnation = journal.head.incarnation
        while True:
            incarnation += 1
            name = f"{journal.head.stem}.{incarnation}"
            keys = [scripts.mark_key(stream.key) for stream in self._lane.streams.values()]
            if not any([await self._ask("HGET", key, name) for key in keys]):
                return incarnation

    # A server that was restarted.

    async def _make_whole(self) -> None:
        """Have a restarted server with an append-only file rewrite it before anything is shipped.

        Redis 7.0 keeps a transaction that a cut tail left open, and applies it at the start after
        the next (platform-facts 2). Raises RedisRefused only when the connection is at fault.
        """
        if not self._may_ask:
            return
        try:
            # Of a Cluster those of all primaries: a failover changes them as a restart does.
            run_id = " ".join(sorted(_told("run_id", await self._ask("INFO", "server"))))
            if not run_id or run_id == self._run_id:
                return
            is_first = self._run_id is None and self._journal is None
            if not is_first:
                await self._rewrite()
        except RedisRefused as error:
            # fakeredis does not know it, and hangs up behind each error.
            self._may_ask = "unknown command" not in str(error).lower()
            log.warning(
                "redis.unchecked",
                problem=str(error),
                risk="a cut append-only file may apply a batch twice",
                remedy="allow INFO and BGREWRITEAOF, or run redis-check-aof before a start",
            )
            return
        self._run_id = run_id
        if self._journal is not None:
            self._journal.run_id = run_id

    async def _rewrite(self) -> None:
        """Ask for a rewrite and wait until it has succeeded; another try a second."""
        if "1" not in _told("aof_enabled", await self._ask("INFO", "persistence")):
            return
        log.info("redis.rewriting", why="it was restarted; its append-only file may end in a cut")
        while True:
            try:
                await self._ask("BGREWRITEAOF")
            except RedisRefused as error:
                if "in progress" not in str(error):
                    raise
            if _told("aof_last_bgrewrite_status", await self._rewritten()) == {"ok"}:
                log.info("redis.rewritten")
                return
            log.error("redis.rewrite_failed", remedy="see its log; is its disk full?")
            await asyncio.sleep(REWRITE_RETRY_SECONDS)

    async def _rewritten(self) -> Reply:
        while True:
            info = await self._ask("INFO", "persistence")
            pending = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
            if not any("1" in _told(name, info) for name in pending):
                return info
            await asyncio.sleep(REWRITE_POLL_SECONDS)


def held_by(journal: Journal) -> Held:
    """Return what a journal holds of its present producer."""
    seqs = {
        chapter_of: (chapters[-1].first, chapters[-1].last)
        for chapter_of in journal.seqs
        if (chapters := journal.chapters(chapter_of))
    }
    return Held(journal.producer, seqs, journal.jseq)


def _told(name: str, info: Reply) -> set[str]:
    """Return what INFO says of a field: one value, of a Cluster each node's."""
    pairs = (line.partition(":") for line in _text(info).splitlines())
    return {value for field, _, value in pairs if field == name}


def _text(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        raise ProtocolError("Redis answered what is no text")
    return reply.decode(errors="replace")
