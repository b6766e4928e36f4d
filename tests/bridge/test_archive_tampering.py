"""Whatever is changed in an archive, `verify` finds it and names the first record concerned."""

import json
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge.archive_verify import verify
from bridge.core import chain
from tests.bridge.archives import (
    arcs,
    assert_whole,
    fill,
    manifests,
    snapshot,
)

SEED = 20261120
TAMPERINGS = 1_000

type Files = dict[Path, bytes]


class Expected(NamedTuple):
    """Where a change is to be found: the record, and the files one of which is named."""

    record: int
    files: set[str]


class Vandal:
    """Changes an archive at random, and knows what has to be said of it."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.directory, self.chance = directory, chance
        self.original = snapshot(directory)
        self.arcs, self.manifests = arcs(directory), manifests(directory)
        self.lines = {path: self.original[path].splitlines(keepends=True) for path in self.arcs}
        # By segment, the number of its first record.
        self.first, number = {}, 1
        for path in self.arcs:
            self.first[path] = number
            number += len(self.lines[path]) - 1
        self.files: Files = {}

    def any_of(self, paths: list[Path]) -> Path:
        return self.chance.choice(paths)

    def at(self, path: Path, line: int) -> Expected:
        """A line counted from 0, the head; the head stands for the record behind it."""
        return Expected(self.first[path] + max(line - 1, 0), {path.name})

    def line_at(self, path: Path, offset: int) -> int:
        return self.original[path][:offset].count(b"\n")

    def put(self, path: Path, lines: list[bytes]) -> None:
        self.files[path] = b"".join(lines)

    def behind(self, path: Path) -> Expected:
        """What shows only when a segment is at its end, or at the begin of the next one."""
        index = self.arcs.index(path)
        names = {path.name, path.with_suffix(".json").name}
        if index + 1 == len(self.arcs):
            return Expected(self.first[path] + len(self.lines[path]) - 1, names)
        follower = self.arcs[index + 1]
        return Expected(self.first[follower], {*names, follower.name})

    def edit(self) -> Expected:
        """Change one byte of a segment."""
        path = self.any_of(self.arcs)
        data, offset = self.original[path], self.chance.randrange(len(self.original[path]))
        byte = self.chance.choice([each for each in range(256) if each != data[offset]])
        self.files[path] = data[:offset] + bytes([byte]) + data[offset + 1 :]
        return self.at(path, self.line_at(path, offset))

    def edit_manifest(self) -> Expected:
        """Change one byte of a manifest."""
        path = self.any_of(self.manifests)
        data, offset = self.original[path], self.chance.randrange(len(self.original[path]))
        byte = self.chance.choice([each for each in range(256) if each != data[offset]])
        self.files[path] = data[:offset] + bytes([byte]) + data[offset + 1 :]
        return self.behind(path.with_suffix(".arc"))

    def delete(self) -> Expected:
        """Take out a line."""
        path = self.any_of(self.arcs)
        line = self.chance.randrange(len(self.lines[path]))
        self.put(path, self.lines[path][:line] + self.lines[path][line + 1 :])
        return self.at(path, line)

    def repeat(self) -> Expected:
        """Put a line in once more."""
        path = self.any_of(self.arcs)
        line = self.chance.randrange(len(self.lines[path]))
        self.put(path, self.lines[path][: line + 1] + self.lines[path][line:])
        found = self.at(path, line + 1)
        return found._replace(files={*found.files, path.with_suffix(".json").name})

    def swap(self) -> Expected:
        """Exchange two lines, of one segment or of two."""
        one, other = self.any_of(self.arcs), self.any_of(self.arcs)
        lines = {path: list(self.lines[path]) for path in (one, other)}
        places = [(path, self.chance.randrange(len(lines[path]))) for path in (one, other)]
        if places[0] == places[1]:
            return self.swap()
        (one, i), (other, j) = sorted(places)
        lines[one][i], lines[other][j] = lines[other][j], lines[one][i]
        for path in (one, other):
            self.put(path, lines[path])
        return self.at(one, i)

    def cut(self) -> Expected:
        """Truncate a segment anywhere."""
        path = self.any_of(self.arcs)
        offset = self.chance.randrange(len(self.original[path]))
        self.files[path] = self.original[path][:offset]
        return self.at(path, self.line_at(path, offset))

    def remove(self) -> Expected:
        """Remove a segment, with its manifest or without."""
        path = self.any_of(self.arcs)
        self.files[path] = b""
        if self.chance.random() < 0.5:
            self.files[path.with_suffix(".json")] = b""
        found = Expected(self.first[path], {path.name})
        if path == self.arcs[-1]:
            found.files.add(self.arcs[-2].name)
        return found

    def remove_manifest(self) -> Expected:
        path = self.any_of(self.manifests)
        self.files[path] = b""
        return Expected(self.first[path.with_suffix(".arc")], {path.name})

    def forge(self) -> Expected:
        """Write a segment anew with another price, its chain whole, its manifest to match."""
        path = self.any_of(self.arcs)
        lines = self.lines[path]
        index = self.arcs.index(path)
        is_known = self.chance.random() < 0.7
        root = bytes.fromhex(self.lines[self.arcs[index - 1]][-1][-65:-1].decode())
        root = (root if index else chain.BEGIN) if is_known else self.chance.randbytes(32)
        victim, forged = self.chance.randrange(1, len(lines)), []
        for number, line in enumerate(lines):
            text = line[: -chain.TAIL_BYTES]
            if number == victim:
                text = text.replace(b'"price":"', b'"price":"9')
            root = chain.digest(root, text)
            forged.append(chain.line(text, root))
        self.put(path, forged)
        manifest = path.with_suffix(".json")
        if manifest in self.original and self.chance.random() < 0.7:
            said = json.loads(self.original[manifest]) | {"root": root.hex()}
            said["bytes"] = len(self.files[path])
            self.files[manifest] = json.dumps(said).encode() + b"\n"
        return self.behind(path) if is_known else self.at(path, 0)

    def write(self) -> None:
        """Change the files; an empty manifest, and an empty segment to be removed, go."""
        for path, data in self.files.items():
            path.unlink(missing_ok=True)
            path.write_bytes(data)

    def undo(self) -> None:
        for path in self.files:
            path.unlink(missing_ok=True)
            if path in self.original:
                path.write_bytes(self.original[path])
                path.chmod(0o444 if path.with_suffix(".json") in self.original else 0o644)
        self.files = {}


def tampered(vandal: Vandal, what: str) -> Expected:
    expected: Expected = getattr(vandal, what)()
    vandal.write()
    if what.startswith("remove"):
        for path in vandal.files:
            path.unlink()
    return expected


KINDS = (
    *("edit", "edit_manifest", "delete", "repeat", "swap", "cut"),
    *("remove", "remove_manifest", "forge"),
)


@pytest.mark.parametrize("seed", [SEED])
def test_tamperings(tmp_path: Path, seed: int) -> None:
    """Edits, deletions, repetitions, swaps, cuts, forgeries, files that are gone: all are found."""
    chance = random.Random(seed)
    heads = [head.root for head in fill(tmp_path, head_records=5)]
    vandal = Vandal(tmp_path, chance)
    assert len(vandal.arcs) > 4
    assert_whole(tmp_path, heads)
    for number in range(TAMPERINGS):
        what = chance.choice(KINDS)
        expected = tampered(vandal, what)
        found = verify(tmp_path, heads).broken
        told = f"{number}: {what}, {expected}, told: {found}"
        assert found is not None, told
        assert found.record == expected.record, told
        assert found.file in expected.files, told
        vandal.undo()
    assert_whole(tmp_path, heads)
