"""How a hint names a command, so that whoever reads it can type it: of a clone, or of a service."""

import os
from typing import Final

# The unit and ops/systemd/nautilus-bridge set it: the path of that, and its role.
VARIABLE: Final = "NAUTILUS_BRIDGE_COMMAND"
OF_A_CLONE: Final = "python -m bridge"


def command(words: str = "", role: str = "") -> str:
    """Return how `words` are called; with `role`: for the bridge of that role."""
    called = os.environ.get(VARIABLE) or OF_A_CLONE
    is_meant = not role or called.endswith(f" {role}")
    return " ".join(filter(None, (called, words, "" if is_meant else f"--role {role}")))
