"""Settings read again while the daemon runs: which of them take effect at once, which do not."""

from collections.abc import Callable, Iterator
from typing import Final

import structlog
from pydantic import BaseModel

from bridge.config import ConfigError
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.reload")

# All else is built into parts that run: an address, a folder, a stream's name, a strategy.
LIVE_CONTROL: Final = ("halt_action", "normal_modes", "on_disable")


def reread(was: Config, read: Callable[[], Config]) -> Config:
    """Return the settings from now on: those in force, with what can change in what `read` returns.

    The log says what has changed, what waits for a restart, and what is wrong; then all stays.
    """
    try:
        wanted = read()
    except ConfigError as error:
        log.error("reload.refused", problems=error.problems, effect="all stays as it was")
        return was
    if wanted.role != was.role:  # an empty or truncated file is the demo's
        problem = f"role: it is {wanted.role}, and this process runs as {was.role}"
        log.error("reload.refused", problems=[problem], effect="all stays as it was")
        return was
    now = merged(was, wanted)
    log.info("reload.done", changed=_differences(was, now))
    if loosened := [name for name, value in now.limits if value > getattr(was.limits, name)]:
        log.warning("reload.loosened", limits=loosened)
    if waiting := _differences(now, wanted):
        log.warning("reload.needs_restart", settings=waiting)
    return now


def merged(was: Config, wanted: Config) -> Config:
    """Return `was` with those settings of `wanted` that take effect at once: `limits`, `log.level`
    and LIVE_CONTROL."""
    control = {name: getattr(wanted.control, name) for name in LIVE_CONTROL}
    limits = {
        name: getattr(section, name)
        for section in (was.limits, wanted.limits)
        for name in section.model_fields_set
    }
    return was.model_copy(
        update={
            "control": was.control.model_copy(update=control),
            # Those alone that were given, which the demo asks for. One that is no longer set keeps
            # its value: a file that was cut must not loosen it.
            "limits": type(was.limits).model_validate(limits),
            "log": was.log.model_copy(update={"level": wanted.log.level}),
        }
    )


def _differences(was: Config, now: Config) -> list[str]:
    """Return the dotted path of every setting that differs, in the order of the sections."""
    before, after = dict(_values(was)), dict(_values(now))
    return [path for path in before if before[path] != after[path]]


def _values(config: Config) -> Iterator[tuple[str, object]]:
    for name, value in config:
        if isinstance(value, BaseModel):
            yield from ((f"{name}.{key}", inner) for key, inner in value)
        else:
            yield name, value
