"""`python -m bridge archive verify`: whether an archive is what was written, and where it is not.

It exits with 0 when the archive is whole, with 1 when it is broken, with 65 where there is none.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import redis

from bridge import exits
from bridge.archive_segments import last_number
from bridge.archive_verify import Report, verify
from bridge.exits import Exit
from bridge.preflight import asked, raw_client_of, refusal_of

HEAD: Final = re.compile(r"[0-9a-fA-F]{64}")
PAGE_HEADS: Final = 1_000


def report(
    directory: Path, heads: Sequence[str] = (), *, stream: str, as_json: bool
) -> tuple[list[str], int]:
    """Return what to print and the exit code: DONE when the archive is whole, FAILED when not.

    Each of `heads` is the root of a head that was published, in hex; `stream` is where that is
    done. Reads only, also beside a bridge that writes. Raises Exit: BAD_DATA where there is no
    archive, USAGE; OSError.
    """
    for head in heads:
        if not HEAD.fullmatch(head):
            raise Exit(exits.USAGE, f"--head {head}: a head is 64 hex digits, see {stream}")
    if not directory.is_dir() or not last_number(directory):
        raise Exit(exits.BAD_DATA, f"{directory} holds no archive; see archive.directory")
    found = verify(directory, heads)
    code = exits.DONE if found.broken is None else exits.FAILED
    if as_json:
        return [json.dumps({"directory": str(directory)} | found.as_dict(), indent=2)], code
    return list(_text(found, heads, stream)), code


def published(url: str, key: str, archive: str) -> list[str]:
    """Return the roots of an archive's heads in the stream `key`, oldest first. Raises Exit."""
    client = raw_client_of(url)
    roots, start = [], "-"
    try:
        while page := asked(client, "XRANGE", key, start, "+", "COUNT", PAGE_HEADS):
            heads = [dict(itertools.batched(fields, 2)) for _, fields in page]
            roots += [
                head.get(b"root", b"").decode(errors="replace")
                for head in heads
                if head.get(b"archive") == archive.encode()
            ]
            start = "(" + page[-1][0].decode()
    except (redis.RedisError, OSError) as error:
        raise refusal_of(error, url) from None
    finally:
        client.close()
    return [root for root in roots if HEAD.fullmatch(root)]


def _text(found: Report, heads: Sequence[str], stream: str) -> Iterator[str]:
    """Yield the report for a person."""
    yield from [f"warning: {warning}" for warning in found.warnings]
    if found.torn_bytes:
        yield f"the open segment ends with {found.torn_bytes} bytes of a line that is not complete"
    if found.broken is not None:
        yield f"BROKEN {found.broken}"
        yield f"whole up to record {found.records}, head {found.root}"
        return
    yield f"{found.segments} segments, {found.records} records, whole; head {found.root}"
    if heads:
        yield f"all {len(heads)} heads are in it"
    else:
        yield (
            f"no head is known, by --head or from {stream} of --url: records that were cut off at"
            " the end would not be seen"
        )
