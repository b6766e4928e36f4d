"""A redis-server whose files can be cut and set back, and a line into it while it is stopped."""

import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge.core import resp
from bridge.embedded_redis import HOST
from tests.servers import RedisServer

EVERYSEC: Final = ("--appendonly", "yes", "--appendfsync", "everysec")
ANSWER_SECONDS_MAX: Final = 30.0


class ChaosServer(RedisServer):
    """A server of a chaos run."""

    @property
    def tail(self) -> Path:
        """The append-only file that is written at present."""
        manifest = self.folder / "appendonlydir" / "appendonly.aof.manifest"
        lines = [line.split() for line in manifest.read_text().splitlines()]
        return manifest.parent / [words[1] for words in lines if words[-1] == "i"][-1]

    def cut_tail(self, size: int) -> None:
        """Cut so many bytes off the append-only file. Only while it does not run."""
        path = self.tail
        with path.open("r+b") as file:
            file.truncate(max(0, path.stat().st_size - size))

    def start_supervised(self) -> None:
        """Start, and once more where Redis ends at the first try: a supervisor would do the same.

        Redis 7.0 does so when it was killed amid a rewrite that began behind a cut: it repairs the
        file whose end is missing, and complains that this one is not the last.
        """
        try:
            self.start()
        except RuntimeError as error:
            if "the truncated file is not the last file" not in str(error):
                raise
            self.start()

    def save(self, path: Path) -> None:
        """Save, and put a copy of the dump aside."""
        self.client.save()
        shutil.copy(self._dump, path)

    def set_back(self, path: Path | None) -> None:
        """Put a copy in the dump's place; None: there was none. Only while it does not run."""
        if path is None:
            self._dump.unlink(missing_ok=True)
        else:
            shutil.copy(path, self._dump)

    def amid(self, stall_seconds: float, *commands: Sequence[str]) -> None:
        """Stall it, so that what is sent to it piles up, and have commands come in amid that."""
        data = b"".join([resp.command(*words) for words in commands])
        with socket.create_connection((HOST, self.port), timeout=ANSWER_SECONDS_MAX) as client:
            self.pause()
            try:
                time.sleep(stall_seconds / 2)
                client.sendall(data)
                time.sleep(stall_seconds / 2)
            finally:
                self.resume()
            parser = resp.ReplyParser()
            answers: list[resp.Reply] = []
            while len(answers) < len(commands):
                answers += parser.feed(client.recv(4096))
        refused = [each for each in answers if isinstance(each, resp.ReplyError)]
        assert not refused, refused

    @property
    def _dump(self) -> Path:
        return self.folder / "dump.rdb"
