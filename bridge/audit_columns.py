"""Numbers of entries, each with a digest, in the order of the numbers: what the audit compares."""

from array import array
from typing import NamedTuple

import numpy as np

type Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]
type Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Held(NamedTuple):
    """What one place holds of one producer in one stream: numbers that rise, a digest for each.

    `doubled` are numbers that were there twice with one content, `differing` with two.
    """

    numbers: Numbers
    digests: Numbers
    doubled: Numbers
    differing: Numbers


class Column:
    """Numbers and digests as a place yields them, in any order; a number may be any."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._digests = array("Q")

    def put(self, seq: int, digest: bytes) -> None:
        """Note an entry."""
        self._seqs.append(seq)
        self._digests.append(int.from_bytes(digest))

    def held(self) -> Held:
        """Return what was put, in order."""
        seqs = np.frombuffer(self._seqs, dtype=np.uint64)
        digests = np.frombuffer(self._digests, dtype=np.uint64)
        order = np.lexsort((digests, seqs))
        seqs, digests = seqs[order], digests[order]
        again, same = seqs[1:] == seqs[:-1], digests[1:] == digests[:-1]
        is_first = np.ones(len(seqs), dtype=np.bool_)
        is_first[1:] = ~again
        return Held(
            seqs[is_first],
            digests[is_first],
            doubled=np.unique(seqs[1:][again & same]),
            differing=np.unique(seqs[1:][again & ~same]),
        )


def union(columns: list[Numbers]) -> Numbers:
    """Return the numbers of columns that rise; faster than np.unique, which hashes."""
    found = np.sort(np.concatenate(columns), kind="stable")
    is_first = np.ones(len(found), dtype=np.bool_)
    is_first[1:] = found[1:] != found[:-1]
    return found[is_first]


def differ(numbers: Numbers, columns: list[Held]) -> Mask:
    """Return where two places hold two contents."""
    known = np.zeros(len(numbers), dtype=np.uint64)
    is_known, differ = np.zeros((2, len(numbers)), dtype=np.bool_)
    for column in columns:
        at = np.searchsorted(numbers, column.numbers)
        differ[at] |= is_known[at] & (known[at] != column.digests)
        known[at], is_known[at] = column.digests, True
    return differ
