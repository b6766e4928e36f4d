"""A process that writes a journal as a bridge does, until it is killed.

    python -m tests.bridge.appender DIRECTORY FSYNC

Each entry is reported on stdout, in a line `stream producer seq once payload`, once `append` has
returned; payload and once are hexadecimal.
"""

import os
import random
import sys
from pathlib import Path

from bridge.core.contract import EXEC_KINDS
from bridge.fill_index import FillIndex
from bridge.journal import Journal, Limits

SYNC_ENTRIES = 7


def main(directory: Path, fsync: str) -> None:
    limits = Limits(fsync=fsync, segment_bytes=16_384)  # type: ignore[arg-type]
    journal = Journal.open(directory, "A", limits)
    fills = FillIndex(directory.parent, journal)
    os.write(1, b"ready\n")
    while True:
        kind, once = random.choice(("orders", "fills")), random.randbytes(16)
        payload, seq = random.randbytes(random.randint(1, 400)), journal.seqs[kind] + 1
        journal.append(EXEC_KINDS.index(kind), seq, journal.jseq + 1, 2, once, payload)
        fills.add(once)
        line = f"{kind} {journal.producer} {seq} {once.hex()} {payload.hex()}\n"
        os.write(1, line.encode())
        if not journal.jseq % SYNC_ENTRIES:
            journal.sync()
            if journal.reserve_is_due:
                journal.make_reserve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
