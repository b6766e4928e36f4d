"""What the settings name as `module:Class` -> what it is: a strategy, a factory of clients."""

import importlib
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.trading.strategy import Strategy

from bridge.exits import CONFIGURATION, Exit

# A strategy's parameters for the demo, beside its module.
DEMO_PARAMS: Final = "demo.toml"


def load_strategy(
    path: str, known: Mapping[str, Any], params: Path | None = None, *, is_demo: bool = False
) -> Strategy:
    """Return the strategy named `module:Class`, built from `<Class>Config` of the same module.

    Its config is given what is `known`, where it has such a field; as `params` the table of that
    TOML file, in a demo that of `demo.toml` beside the module when no file is named. Raises Exit
    when there is no such class or file, or it cannot be built without more settings.
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
    taken = getattr(config_class, "__struct_fields__", ())
    if params is not None and "params" not in taken:
        raise Exit(CONFIGURATION, f"source.params: {path} has no field params in its config")
    if params is None and is_demo and "params" in taken:
        beside = Path(str(module.__file__)).with_name(DEMO_PARAMS)
        params = beside if beside.exists() else None
    try:
        if config_class is None:
            return cls()
        given = {**known} if params is None else {**known, "params": load_params(params)}
        return cls(config_class(**{name: given[name] for name in given if name in taken}))
    except Exit:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a strategy of the user's raises
        raise Exit(
            CONFIGURATION,
            f"source.strategy: {path} cannot be built{'' if params is None else f' from {params}'}:"
            f" {type(error).__name__}: {error}; every field of its config but "
            f"{', '.join(dict.fromkeys([*known, 'params']))} needs a default",
        ) from None


def load_params(file: Path) -> dict[str, Any]:
    """Return the table in a TOML file. Raises Exit."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Exit(CONFIGURATION, f"source.params: cannot read {file}: {error}") from None


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
