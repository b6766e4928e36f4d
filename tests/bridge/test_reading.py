"""bridge/reading.py: the digest by which the content of an entry is compared."""

import itertools
from collections.abc import Sequence

import pytest

from bridge.reading import DIGEST_BYTES, digest_of


def test_two_lists_of_fields_have_two_digests() -> None:
    """However the same bytes are cut into fields, also at what stands between fields."""
    bits = [b"", b"a", b"\0", b"\0\0", b"a\0", b"\0a", b"\1", b"\1\0\0\0\0\0\0\0"]
    lists = [list(each) for size in range(4) for each in itertools.product(bits, repeat=size)]
    digests = {digest_of(fields) for fields in lists}
    assert len(digests) == len(lists)
    assert {len(digest) for digest in digests} == {DIGEST_BYTES}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([b"a", b"b"], [b"a\0b"]),
        ([b"price", b"1", b"qty", b"2"], [b"price", b"1\0qty\x002"]),
        ([b"a\0", b"b"], [b"a", b"\0b"]),
        ([b"x" * 256 + b"\0", b""], [b"x" * 256, b"\0"]),
    ],
)
def test_fields_that_were_merged(one: Sequence[bytes], other: Sequence[bytes]) -> None:
    """An entry whose fields were merged is another one."""
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(tuple(one))
