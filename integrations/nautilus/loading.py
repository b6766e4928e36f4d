"""What the settings name as `module:Class` -> what it is: a strategy, a factory of clients."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.trading.strategy import Strategy

from bridge.exits import CONFIGURATION, Exit


def load_strategy(path: str, known: Mapping[str, Any]) -> Strategy:
    """Return the strategy named `module:Class`, built from `<Class>Config` of the same module.

    Its config is given what is `known`, where it has such a field. Raises Exit when there is no
    such class, or it cannot be built without more settings.
    """
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        cls = getattr(module, class_name)
    except Exception as error:  # noqa: BLE001 - whatever a module of the user's raises
        raise Exit(
            CONFIGURATION,
            f"source.strategy: cannot load {path}: {type(error).__name__}: {error}; write "
            f"module:Class, with the module below {Path.cwd()} or on PYTHONPATH",
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        raise Exit(CONFIGURATION, f"source.strategy: {path} is no Nautilus Strategy")
    config_class = getattr(sys.modules[module_name], f"{class_name}Config", None)
    try:
        if config_class is None:
            return cls()
        wanted = {name: known[name] for name in known if name in config_class.__struct_fields__}
        return cls(config_class(**wanted))
    except Exception as error:  # noqa: BLE001 - whatever a strategy of the user's raises
        raise Exit(
            CONFIGURATION,
            f"source.strategy: {path} cannot be built: {type(error).__name__}: {error}; every "
            f"field of its config but {' and '.join(known)} needs a default",
        ) from None


def load_client(path: str) -> type[LiveExecClientFactory]:
    """Return `module:Class`, a factory of execution clients. Raises Exit."""
    module, _, name = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - whatever a module of the user's raises
        raise Exit(
            CONFIGURATION,
            f"node.exec_client: cannot load {path}: {type(error).__name__}: {error}",
        ) from None
    if not (isinstance(factory, type) and issubclass(factory, LiveExecClientFactory)):
        raise Exit(CONFIGURATION, f"node.exec_client: {path} is no LiveExecClientFactory")
    return factory
