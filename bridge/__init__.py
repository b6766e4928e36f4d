"""The bridge between NautilusTrader and Redis: knows Redis, never Nautilus."""

from typing import Final

VERSION: Final = "0.7.0"
