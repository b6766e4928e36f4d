"""Rows of the table whose fault strikes the daemon, or two of them."""

from bridge import exits
from tests.chaos.checker import Verdict
from tests.chaos.rig import Rig, refused_with

START_SECONDS = 2.0


def daemon_killed(rig: Rig) -> Verdict:
    """SIGKILL of the daemon, in the middle of it or while it starts; restart."""
    daemon = rig.start().until_running()
    for _ in rig.striking("SIGKILL of the daemon"):
        rig.until_moving(daemon)
        with rig.perhaps_stalled():
            rig.kill(daemon)
        while rig.chance.random() < 0.2:  # once more, before it is up
            starting = rig.start()
            rig.wait(0, START_SECONDS)
            rig.kill(starting)
        daemon = rig.start().until_running()
    rig.finish(daemon)
    return rig.verdict()


def taken_over(rig: Rig) -> Verdict:
    """Two daemons with one producer.id: the newcomer is refused, or takes over and the other ends.

    They take turns, each with a journal of its own.
    """
    places = ["one", "two"]
    holder = rig.start(state=places[0]).until_running()
    for fault in rig.striking("refused", "takeover"):
        rig.until_moving(holder, places[0])
        if fault == "refused":
            _refused(rig, places)
            continue
        places.reverse()
        holder, loser = rig.start("--takeover", state=places[0]), holder
        ended = loser.ended()
        refused_with(ended, exits.FENCED, "is held by another bridge now")
        holder.until_running()
    rig.finish(holder)
    rig.finish(rig.start(state=places[1]).until_running())  # what it had not shipped
    return rig.verdict(*places)


def _refused(rig: Rig, places: list[str]) -> None:
    """Start another daemon that must not run: on the same journal, or with one of its own."""
    if rig.chance.random() < 0.5:
        ended = rig.start("--takeover", state=places[0]).ended()
        refused_with(ended, exits.TAKEN, "another bridge writes to")
    else:
        ended = rig.start(state=places[1]).ended()
        refused_with(ended, exits.TAKEN, "is held by another bridge")
