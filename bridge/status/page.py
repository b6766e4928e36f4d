"""The ops page as it is served: the files beside this one, read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CONTENT_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page: its bytes, and its Content-Type header."""

    body: bytes
    content_type: str


def assets() -> Mapping[str, Asset]:
    """Return the page's files, read now, by their path in the URL; `/` is the page itself.

    Raises OSError when one of them cannot be read.
    """
    found = {}
    for file in Path(__file__).parent.glob("page.*"):
        if file.suffix in CONTENT_TYPES:
            path = "/" if file.suffix == ".html" else f"/{file.name}"
            content_type = f"{CONTENT_TYPES[file.suffix]}; charset=utf-8"
            found[path] = Asset(file.read_bytes(), content_type)
    return found
