"""The row whose node is restarted, so that Nautilus reports old fills again."""

from tests.chaos.checker import Verdict
from tests.chaos.child import Child
from tests.chaos.rig import KEYS, PREFIX, SEGMENT_BYTES, Rig


def node_restarted(rig: Rig) -> Verdict:
    """SIGKILL of a node with the bridge attached; its venue tells of the same fills once more."""
    node = _start(rig)
    for _ in rig.striking("SIGKILL of a node; old fills come again"):
        rig.until_moving(node)
        with rig.perhaps_stalled():
            node.kill()
        rig.kills += 1
        node = _start(rig)
    rig.until_moving(node)
    node.end()
    return rig.verdict(once=True)


def _start(rig: Rig) -> Child:
    """Start the node; wait until it trades."""
    node = Child(
        "tests.chaos.node",
        rig.new_folder(),
        redis__url=rig.url,
        streams__prefix=PREFIX,
        journal__directory=str(rig.folder / "journal"),
        journal__segment_bytes=str(rig.chance.choice(SEGMENT_BYTES)),
        CHAOS_RECORD=str(rig.record()),
        CHAOS_VENUE=str(rig.folder / "venue"),
    )
    rig.stack.enter_context(node)
    before = rig.server.client.xlen(KEYS["fills"])
    node.until(lambda: rig.server.client.xlen(KEYS["fills"]) > before, "a new fill")
    return node
