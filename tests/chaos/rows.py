"""The rows of the table: what strikes, what may come of it, and how it is run."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tests.chaos import (
    cluster_faults,
    disk_faults,
    market_faults,
    naive_faults,
    node_faults,
    process_faults,
    reader_faults,
    redis_faults,
    sentinel_faults,
)
from tests.chaos.checker import Verdict
from tests.chaos.rig import Rig
from tests.chaos.servers import EVERYSEC


class Row(NamedTuple):
    """One row: its text in the README, what runs it, and the options of its redis-server.

    `but` is what the text allows beyond the zeros.
    """

    text: str
    run: Callable[[Rig], Verdict]
    options: tuple[str, ...] = ()
    but: str = ""


ROWS: Final[Mapping[str, Row]] = {
    "daemon_killed": Row(
        "SIGKILL of the daemon, restart",
        process_faults.daemon_killed,
        but="of what a handler had returned for",
    ),
    "redis_killed": Row(
        "SIGKILL of redis-server (AOF everysec), restart", redis_faults.server_killed, EVERYSEC
    ),
    "aof_cut": Row("AOF cut by 1-64 KiB, then two restarts", redis_faults.log_cut, EVERYSEC),
    "rdb_restored": Row("restored from an older RDB", redis_faults.dump_restored),
    "flushed": Row(
        "FLUSHALL, DEL of a stream, DEL of a mark, SCRIPT FLUSH, with batches in flight",
        redis_faults.flushed,
    ),
    "starved": Row(
        "OOM between two batches in flight; OOM for 10 s; Redis stalled 10 s", redis_faults.starved
    ),
    "reply_lost": Row("connection cut after send and before the reply", redis_faults.reply_lost),
    "cluster": Row(
        "Redis Cluster: SIGKILL of a primary, with a replica that is behind, places changed, an"
        " exec stream's slot moved key by key, a part lost",
        cluster_faults.cluster_struck,
    ),
    "journal_damaged": Row(
        "journal cut below the mark, lost, copied",
        disk_faults.journal_damaged,
        but="but what neither Redis nor the journal had any more",
    ),
    "disk_full": Row(
        "disk full in the journal: halt, exit 74",
        disk_faults.disk_full,
        but="but the event in hand, named in the log",
    ),
    "taken_over": Row(
        "two daemons with one `producer.id`; takeover: the loser exits 76",
        process_faults.taken_over,
    ),
    "node_restarted": Row(
        "node killed and restarted, Nautilus reports old fills again", node_faults.node_restarted
    ),
    "reader_killed": Row(
        "SIGKILL of ledger or archive, alone; no room on their disk", reader_faults.reader_killed
    ),
    "readers_rewound": Row(
        "under ledger and archive: FLUSHALL, DEL of a stream, of a mark, older RDB, a clock 5 s"
        " behind, SIGKILL of the daemon, somebody else writing",
        reader_faults.readers_rewound,
    ),
    "readers_trimmed": Row(
        "streams trimmed under ledger and archive that stand still, `journal.retain` 0",
        reader_faults.readers_trimmed,
    ),
    "fills_made_up": Row(
        "provisional, replaced and late fills; SIGKILL of daemon and ledger, torn journal",
        reader_faults.fills_made_up,
    ),
    "sentinel": Row(
        "Sentinel: primary killed, stalled, `SENTINEL FAILOVER`; promoted without the tail, its"
        " clock 5 s behind; restarted while no Sentinel runs",
        sentinel_faults.failed_over,
    ),
    "market_apart": Row(
        "`redis.market_url`: SIGKILL of the market data's Redis, stalled, another password, full",
        market_faults.market_struck,
    ),
}

# The same faults against `XADD *` with redis-py's default retries.
NAIVE: Final[Mapping[str, Row]] = {
    "naive_killed": Row("SIGKILL of the process, restart", naive_faults.process_killed),
    "naive_redis_killed": Row(
        "SIGKILL of redis-server (AOF everysec), restart", naive_faults.server_killed, EVERYSEC
    ),
    "naive_rdb_restored": Row("restored from an older RDB", naive_faults.dump_restored),
    "naive_flushed": Row("FLUSHALL", naive_faults.flushed),
    "naive_starved": Row("OOM for a moment", naive_faults.starved),
    "naive_reply_lost": Row(
        "connection cut after send and before the reply", naive_faults.reply_lost
    ),
}
