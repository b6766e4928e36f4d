"""How the process ends: the documented exit codes, and the one exception that carries them."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
BAD_DATA: Final = 65
UNAVAILABLE: Final = 69
TAKEN: Final = 73
CANNOT_RECORD: Final = 74
RESTART: Final = 75
FENCED: Final = 76
REFUSED: Final = 77
CONFIGURATION: Final = 78


class Exit(Exception):
    """The process must end with `code`; the message says what was wrong and what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
