"""bridge/core/control.py: a halt holds until it is ended on purpose, whatever Redis forgets."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.control import KEEP, Halt, Latch, Mode, Sight, Step, latched, mode_of, step

HALT, NORMAL, REDUCE = Mode.HALT, Mode.NORMAL, Mode.REDUCE
NOT_HALT = [mode for mode in Mode if mode is not HALT]
NS = 7

HELD = Halt("h1", "breach", "a limit is broken", 1)
FRESH = HELD._replace(is_fresh=True)
SIGHTED = HELD._replace(is_sighted=True)


def stepped(halt: Halt | None, id_: str, mode: Mode, *, ended: str = "", **asked: str) -> Step:
    """Return what a read makes of a latch; a halt that begins gets the id `new`."""
    return step(Latch(halt, ended), Sight(id_, mode, **asked), new_id="new", now_ns=NS)


def ended(halt: Halt) -> Step:
    """Return the end of a halt: its id goes from Redis, and is remembered."""
    return Step(Latch(None, halt.id), "")


def held(halt: Halt, put: str | None) -> Step:
    return Step(Latch(halt), put)


def test_mode_halt_begins_one() -> None:
    """Mode halt begins a halt, whatever id Redis holds, and its id is written."""
    for id_ in ("", "h0", "other"):
        found = stepped(None, id_, HALT, ended="h0")
        assert found == (Latch(Halt("new", "mode", "mode is halt", NS, is_fresh=True), "h0"), "new")


def test_mode_halt_seen_and_latched() -> None:
    """Mode halt read together with the id is a sighting; a normal word with the same id ends it."""
    assert stepped(FRESH, "h1", HALT) == held(FRESH._replace(is_sighted=True), KEEP)
    assert stepped(SIGHTED, "h1", HALT) == held(SIGHTED, KEEP)
    assert stepped(SIGHTED, "h1", NORMAL) == ended(SIGHTED)


def test_halt_that_was_set_later_than_the_id() -> None:
    """An id written before mode was halt is replaced by a new one: older copies of Redis may hold
    it beside a normal word. That is no sighting yet."""
    for id_ in ("h1", "", "other"):
        renewed = held(HELD._replace(id="h1~new", is_fresh=True), "h1~new")
        assert stepped(HELD, id_, HALT) == renewed
        assert stepped(HELD._replace(id="h1~old"), id_, HALT) == renewed


@pytest.mark.parametrize("halt", [HELD, FRESH, SIGHTED])
@pytest.mark.parametrize("mode", NOT_HALT)
@pytest.mark.parametrize("id_", ["", "h0", "h11"])
def test_redis_rewound_behind_the_halt(halt: Halt, mode: Mode, id_: str) -> None:
    """Where Redis has another id or none, the halt holds; its id is written again, its sighting
    forgotten."""
    assert stepped(halt, id_, mode) == held(HELD, "h1")


def test_id_missing_while_mode_is_halt() -> None:
    """An id that is written again beside mode halt has to be sighted again."""
    assert stepped(FRESH, "", HALT) == held(FRESH, "h1")
    assert stepped(SIGHTED, "", HALT) == held(FRESH, "h1")


def test_a_normal_word_without_a_sighting() -> None:
    """A normal word ends nothing that was not sighted, and it takes the freshness of the id."""
    assert stepped(HELD, "h1", NORMAL) == held(HELD, KEEP)
    assert stepped(FRESH, "h1", NORMAL) == held(HELD, KEEP)


@pytest.mark.parametrize("halt", [HELD, SIGHTED])
@pytest.mark.parametrize("mode", [Mode.MISSING, Mode.UNKNOWN, REDUCE])
def test_no_other_mode_ends_it(halt: Halt, mode: Mode) -> None:
    """A missing mode, an unknown word and reduce leave everything as it is."""
    assert stepped(halt, "h1", mode) == held(halt, KEEP)


@pytest.mark.parametrize("halt", [HELD, FRESH, SIGHTED])
@pytest.mark.parametrize("id_", ["", "h1", "other"])
def test_resume(halt: Halt, id_: str) -> None:
    """To resume by the id ends it under every mode but halt, also where Redis lost the id."""
    for mode in NOT_HALT:
        assert stepped(halt, id_, mode, resume="h1") == ended(halt)
    assert stepped(halt, id_, HALT, resume="h1") == stepped(halt, id_, HALT)


def test_resume_of_another_halt() -> None:
    """To resume by another id does nothing, nor where nothing holds."""
    for resume in ("h0", "h11", "h1~new", "H1"):
        for mode in Mode:
            assert stepped(HELD, "h1", mode, resume=resume) == stepped(HELD, "h1", mode)
            assert stepped(None, "", mode, resume=resume) == stepped(None, "", mode)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("halt", [None, HELD, SIGHTED])
def test_an_order_to_halt(halt: Halt | None, mode: Mode) -> None:
    """`python -m bridge halt` halts under its own id, whatever else holds; fresh beside halt."""
    found = stepped(halt, "h1", mode, ended="h0", order="h2 the desk is on fire", resume="h1")
    ordered = Halt("h2", "command", "the desk is on fire", NS, is_fresh=mode is HALT)
    assert found == (Latch(ordered, "h0"), "h2")


def test_an_order_without_a_reason() -> None:
    """An id alone is an order, too."""
    assert stepped(None, "", NORMAL, order="h2").latch.halt == Halt("h2", "command", "", NS)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", ["h1", "h1~new"])
def test_an_old_order_comes_back(mode: Mode, name: str) -> None:
    """An order of the halt that holds, or that was ended last, is no new one."""
    halt = HELD._replace(id=name)
    for order in ("h1 again", f"{name} again"):
        assert stepped(halt, name, mode, order=order) == stepped(halt, name, mode)
        found = stepped(None, "", mode, ended=name, order=order)
        assert found == stepped(None, "", mode, ended=name)


def test_orders_with_odd_ids() -> None:
    """No id that somebody may type is taken for one that is known."""
    for order in ("~", "~x", "h1~x", "h", "h11"):
        halt = stepped(HELD, "h1", NORMAL, order=order).latch.halt
        assert halt is not None
        assert halt.id == order
        halt = stepped(None, "", NORMAL, order=order).latch.halt
        assert halt is not None
        assert halt.id == order


@pytest.mark.parametrize("mode", NOT_HALT)
def test_unknown_id_in_redis(mode: Mode) -> None:
    """An id that Redis holds and the disk does not know is a halt: the disk may be a new one."""
    latch, put = stepped(None, "h9", mode, ended="h0")
    assert put is KEEP
    assert latch.ended == "h0"
    assert latch.halt is not None
    assert latch.halt[:2] == ("h9", "restored")
    assert (latch.halt.is_sighted, latch.halt.is_fresh) == (False, False)


@pytest.mark.parametrize("mode", NOT_HALT)
def test_id_of_the_last_ended_halt(mode: Mode) -> None:
    """The id of the halt that was ended last, or the one it began with, is removed from Redis."""
    for id_, last in (("h1", "h1"), ("h1~new", "h1~new"), ("h1", "h1~new")):
        assert stepped(None, id_, mode, ended=last) == Step(Latch(None, last), "")
    assert stepped(None, "", mode, ended="h1") == Step(Latch(None, "h1"), KEEP)


@pytest.mark.parametrize("halt", [None, HELD, SIGHTED])
def test_breach(halt: Halt | None) -> None:
    """A breach begins a halt; one that holds stays what it is."""
    found = latched(Latch(halt, "h0"), "breach", "lost", new_id="new", now_ns=NS)
    assert found == Latch(halt or Halt("new", "breach", "lost", NS), "h0")


class Copy(NamedTuple):
    """All that Redis holds. `past`: ids and modes that it held, and whether an operator set it."""

    id: str = ""
    mode: bytes | None = None
    order: str = ""
    resume: str = ""
    past: tuple[tuple[str, Mode, bool], ...] = ()

    @property
    def now(self) -> tuple[str, Mode]:
        return self.id, mode_of(self.mode, ("normal",))


class World:
    """A bridge, and a Redis that an operator writes to and that may be set back."""

    def __init__(self) -> None:
        self.redis = Copy()
        self.copies = [self.redis]
        self.latch = Latch()
        self.seen: set[tuple[str, Mode]] = set()
        self.obeyed = {""}
        self.puts: list[str | None] = []
        self.count = 0

    def do(self, event: str, number: int = 0) -> None:
        match event:
            case "halt" | "normal" | "reduce" | "typo":
                self._write(is_mode=True, mode=event.encode())
            case "unset":
                self._write(mode=None)
            case "flush":
                self.redis = Copy(past=(*self.redis.past, ("", Mode.MISSING, False)))
            case "copy":
                self.copies.append(self.redis)
            case "back":
                self.redis = self.copies[number % len(self.copies)]
            case "order":
                self._write(order=f"{self._new_id()} stop")
            case "resume":
                self._write(resume=self.redis.id)
            case "breach":
                new_id = self._new_id()
                self.latch = latched(self.latch, "breach", "", new_id=new_id, now_ns=NS)
            case "restart" if self.latch.halt is not None:
                forgot = self.latch.halt._replace(is_fresh=False)  # see bridge/latch.py
                self.latch = self.latch._replace(halt=forgot)
            case "read":
                self.read()
                self.put()
            case "read, put lost":
                self.read()
                self.puts.clear()
            case "read, put late":
                self.read()

    def read(self) -> None:
        redis, before = self.redis, self.latch.halt
        id_, mode = redis.now
        sight = Sight(id_, mode, redis.order, redis.resume)
        self.latch, put = step(self.latch, sight, new_id=self._new_id(), now_ns=NS)
        self.puts.append(put)
        self.seen.add(redis.now)
        order_id = redis.order.partition(" ")[0]
        if (mode is HALT and before is None) or order_id not in self.obeyed:
            assert self.latch.halt is not None
        self.obeyed.add(order_id)
        if before is not None and self.latch.halt is None:
            is_resumed = redis.resume == before.id and mode is not HALT
            assert is_resumed or self._was_withdrawn(before.id)

    def put(self) -> None:
        """Write what follows from a read, then read again where that was anything."""
        has_put = any(put is not KEEP for put in self.puts)
        for put in self.puts:
            self._write(id=self.redis.id if put is KEEP else put, order="", resume="")
        self.puts.clear()
        if has_put:
            self.read()
            self.put()

    def _was_withdrawn(self, id_: str) -> bool:
        """Whether mode was halt beside this id in what became of this Redis, that was seen, and an
        operator then set a normal word, which is there beside the id now."""
        since = len(self.redis.past)
        while since and self.redis.past[since - 1][0] == id_:
            since -= 1
        history = self.redis.past[since:]
        halts = [at for at, (_, mode, _) in enumerate(history) if mode is HALT]
        words = [at for at, (_, mode, is_set) in enumerate(history) if mode is NORMAL and is_set]
        in_order = bool(halts and words) and halts[0] < words[-1]
        return in_order and (id_, HALT) in self.seen and self.redis.now == (id_, NORMAL)

    def _write(self, *, is_mode: bool = False, **values: object) -> None:
        redis = self.redis._replace(**values)
        self.redis = redis._replace(past=(*redis.past, (*redis.now, is_mode)))

    def _new_id(self) -> str:
        self.count += 1
        return f"h{self.count}"


# What happens, each as often as it stands here.
EVENTS = (
    *["read"] * 6, "read, put lost", "read, put late", "restart", "breach", "order", "resume",
    *["halt"] * 4, *["normal"] * 4, "reduce", "typo", "unset", "flush", *["copy", "back"] * 3,
)  # fmt: skip


def lived(events: bytes) -> World:
    """Return what becomes of events, one a byte. A put is late by one event at most."""
    world = World()
    for each in events:
        number, event = divmod(each, len(EVENTS))
        is_late = bool(world.puts)
        world.do(EVENTS[event], number)
        if is_late:
            world.put()
    world.put()
    return world


def check(events: bytes) -> None:
    """Live through it, and see that behind it a halt can be ended, one way or the other."""
    world = lived(events)
    if events[-1] % 2:
        ending = ("halt", "read", "normal", "read")
    else:
        ending = ("normal", "read", "resume", "read")
    for event in ending:
        world.do(event)
    assert world.latch.halt is None


LIVES = given(events=st.binary(min_size=40, max_size=40))


@settings(max_examples=1500)
@LIVES
def test_only_an_operator_ends_a_halt(events: bytes) -> None:
    """In any order of writes, reads, lost and late puts, copies and restarts, a halt is ended by
    its resume, or by halt and then a normal word beside its id: never by what Redis forgot.
    """
    check(events)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=10_000)
@LIVES
def test_only_an_operator_ends_a_halt_at_length(events: bytes) -> None:
    """The same, for longer."""
    check(events)


@pytest.mark.parametrize("begins", ["breach", "order"])
def test_halt_lost_with_the_primary(begins: str) -> None:
    """A replica that has the id and not yet the operator's halt does not end it on taking over."""
    world = World()
    for event in ("normal", begins, "read", "copy", "halt", "read"):
        world.do(event)
    world.do("back", -1)
    world.do("read")
    assert world.latch.halt is not None


def test_rewound_before_the_id_was_written() -> None:
    """Redis set back between the read of mode halt and the write of the id does not end it."""
    world = World()
    for event in ("normal", "copy", "halt", "read, put late"):
        world.do(event)
    world.do("back", -1)
    world.put()
    world.do("read")
    assert world.redis.now == (world.latch.halt and world.latch.halt.id, NORMAL)


@given(
    st.sampled_from([HELD, FRESH, SIGHTED]),
    st.sampled_from(list(Mode)),
    st.sampled_from(["", "h1", "h0"]),
    st.sampled_from(["", "h1"]),
)
def test_a_read_that_is_not_whole(halt: Halt, mode: Mode, id_: str, resume: str) -> None:
    """A read of which a part is missing ends no halt and is no sighting; what it shows of another
    mode is remembered."""
    sight = Sight(id_, mode, resume=resume, is_whole=False)
    found = step(Latch(halt), sight, new_id="new", now_ns=NS)
    assert found == held(halt._replace(is_fresh=halt.is_fresh and mode is HALT), KEEP)


def test_a_read_that_is_not_whole_halts() -> None:
    """Such a read begins a halt as any other does: by the mode, by an order, by an id."""
    for sight, cause in (
        (Sight(mode=HALT, is_whole=False), "mode"),
        (Sight(mode=Mode.UNKNOWN, order="h2 why", is_whole=False), "command"),
        (Sight("h3", Mode.UNKNOWN, is_whole=False), "restored"),
    ):
        found = step(Latch(), sight, new_id="new", now_ns=NS)
        assert found.latch.halt is not None
        assert found.latch.halt.cause == cause
    nothing = Sight(mode=Mode.UNKNOWN, is_whole=False)
    assert step(Latch(), nothing, new_id="new", now_ns=NS) == Step(Latch(), KEEP)
