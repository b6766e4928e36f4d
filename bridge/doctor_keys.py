"""What `python -m bridge doctor` concludes of the keys: state, flags, limits, streams."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from bridge import hints
from bridge.controller import STATE_SECONDS_MAX, Keys
from bridge.core import contract, control
from bridge.core.contract import Names
from bridge.core.control import FLAGS, MODE_KEY, ON_WORDS, WRONG_TYPE, Mode, Raw, word_of
from bridge.core.limits import Limits
from bridge.doctor import Finding, Level, Reading, Refused, Stream, judged, size
from bridge.role_state import age_seconds_of, heartbeat_problem

OFF_WORDS: Final = ("0", "false", "off", "no", "")
AHEAD_MS_MAX: Final = 1_000


def keys(
    read: Reading,
    *,
    now_ns: int,
    names: Names,
    role: str,
    normal_words: Sequence[str],
    limits: Limits,
) -> Iterator[Finding]:
    """Yield what is found of flags, mode, limits and execution streams; `now_ns` by our clock."""
    yield judged("bridge", bridge, read, role, now_ns)
    for key in FLAGS:
        raw = read.values.get(key)
        is_ours = key == control.FLAG_OF_ROLE[role]
        yield (
            raw.finding(key)
            if isinstance(raw, Refused)
            else judged(key, flag, key, raw, is_ours=is_ours)
        )
    raw = read.values.get(MODE_KEY)
    yield (
        raw.finding(MODE_KEY)
        if isinstance(raw, Refused)
        else judged(MODE_KEY, mode, raw, normal_words)
    )
    yield judged("limits", risk, read, limits)
    yield judged(names.prefixed(contract.CONTRACT_KEY), schema, read, names)
    for stream in read.exec_streams.values():
        yield judged(stream.key, exec_stream, stream, read.now_ms)


def bridge(read: Reading, role: str, now_ns: int) -> Finding:
    """Tell whether a bridge of the role runs: one whose state is old may hang, or have died."""
    state = read.state
    if isinstance(state, Refused):
        return state.finding("bridge")
    age_seconds = age_seconds_of(state, now_ns) or 0.0
    if state and (problem := heartbeat_problem(state, now_ns)):
        key = Keys.of(role).state
        what = f"{role} does not answer: {key} is no state that can be read: {problem}"
        remedy = f"RENAME {key} {key}:old, a bridge that runs writes it anew"
        return Finding(Level.WARN, "bridge", what, remedy)
    numbers = {"heartbeat_age_seconds": age_seconds} if state else {}
    if state and age_seconds < STATE_SECONDS_MAX:
        why = f": {state['reason']}" if state.get("reason") else ""
        held = state.get("latched")
        what = f"{role} runs, pid {state.get('pid')}, {state.get('state')}{why}"
        remedy = f"{hints.command('resume', role)}, when you know why" if held else ""
        return Finding(Level.WARN if held else Level.OK, "bridge", what, remedy, numbers)
    if not state and read.pid_here is None:
        return Finding(Level.OK, "bridge", f"none of the role {role} runs")
    what = f"its state in Redis is {age_seconds:.0f} s old" if state else "it shows no state"
    why = "Redis takes no writes, or it hangs or has died"
    if read.pid_here is not None:
        what = f"process {read.pid_here} of this host holds its lease, but {what}"
        why = "Redis takes no writes, or it starts or hangs"
    remedy = f"ask systemctl status nautilus-bridge@{role}, or /health, how it stands"
    said = f"{role} does not answer: {what}: {why}"
    return Finding(Level.WARN, "bridge", said, remedy, numbers)


def flag(key: str, raw: Raw, *, is_ours: bool) -> Finding:
    """Judge a flag: what is no value of one counts as off."""
    if raw is WRONG_TYPE:
        what, remedy = "it holds no string: it counts as off", f"DEL {key}, then SET {key} 1"
        return Finding(Level.WARN, key, what, remedy)
    if raw is not None and word_of(raw) not in (*ON_WORDS, *OFF_WORDS):
        what = f"{_shown(raw)} is no value of a flag: it counts as off"
        return Finding(Level.WARN, key, what, f"SET {key} 1, or 0")
    how = "missing: off" if raw is None else "on" if control.flag_of(raw) else "off"
    return Finding(Level.OK, key, how + (", ours" if is_ours else ""))


def _shown(raw: Raw) -> str:
    """Return a value as somebody wrote it."""
    return repr(raw.decode(errors="replace").strip()) if isinstance(raw, bytes) else "no string"


def mode(raw: Raw, normal_words: Sequence[str]) -> Finding:
    """Judge the mode: an unknown word lets positions only shrink."""
    if control.mode_of(raw, normal_words) is Mode.UNKNOWN:
        word = "what is no string" if raw is WRONG_TYPE else _shown(raw)
        what = f"{word} is no mode: orders may only reduce positions"
        known = " ".join([*normal_words, Mode.REDUCE, Mode.HALT])
        remedy = f"SET mode to one of: {known}" if raw is not WRONG_TYPE else "DEL mode, then SET"
        return Finding(Level.WARN, MODE_KEY, what, remedy)
    return Finding(Level.OK, MODE_KEY, "missing: normal" if raw is None else word_of(raw))


def risk(read: Reading, limits: Limits) -> Finding:
    """Judge the limits: where a value is none the configured one holds."""
    name = "limits"
    given = {key: raw for key, raw in read.values.items() if key.startswith("risk:")}
    known = {key: raw for key, raw in given.items() if not isinstance(raw, Refused)}
    _, wrong = control.limits_of(known, limits)
    if wrong:
        said = [f"{key}: {_shown(known[key])} is no number {_range(key)}" for key in wrong]
        what = f"{'; '.join(said)}: the configured limit holds"
        return Finding(Level.WARN, name, what, f"SET {' '.join(wrong)} to such a number, or DEL")
    if refused := [raw for raw in given.values() if isinstance(raw, Refused)]:
        return refused[0]._replace(key="risk:*").finding(name)
    named = " ".join([key for key, raw in known.items() if raw is not None])
    what = f"{named or 'none'} in Redis, the others as configured"
    return read.unseen(name, what) or Finding(Level.OK, name, what)


def _range(key: str) -> str:
    is_fraction = key.removeprefix("risk:") in control.FRACTIONS
    return "from 0 to 1" if is_fraction else f"from 0 to {control.AMOUNT_MAX:.0e}"


def schema(read: Reading, names: Names) -> Finding:
    """Judge whether the contract in Redis is the one of these settings."""
    key, found = names.prefixed(contract.CONTRACT_KEY), read.contract
    if isinstance(found, Refused):
        return found.finding(key)
    if found is None:
        return Finding(Level.OK, key, "missing: no bridge has run with this prefix yet")
    if isinstance(found, bytes) and _is_json(found, contract.json_schema(names)):
        return Finding(Level.OK, key, f"version {contract.VERSION}, these stream names")
    what = "it was written by another version, or with other stream names (streams.*)"
    return Finding(Level.WARN, key, what, "name the --config of the bridge, or restart that")


def _is_json(text: bytes, wanted: object) -> bool:
    try:
        found: object = json.loads(text)
    except ValueError:
        return False
    return found == wanted


def exec_stream(stream: Stream, now_ms: int) -> Finding:
    """Judge one stream of execution entries, and how fast it grows."""
    key = stream.key
    if stream.type not in ("stream", "none"):
        what = f"it holds a {stream.type}: no entry can be written"
        return Finding(Level.LOSE, key, what, f"RENAME {key} {key}:old")
    if stream.mark_type not in ("hash", "none"):
        mark = f"bridge:mark:{{{key}}}"
        what = f"{mark} holds a {stream.mark_type}: no entry can be written"
        return Finding(Level.LOSE, key, what, f"DEL {mark}")
    if stream.expiring:
        left = ", ".join([f"{each} in {ms / 1000:,.0f} s" for each, ms in stream.expiring.items()])
        what = f"Redis deletes {left}: somebody has set an EXPIRE"
        remedy = "; ".join([f"PERSIST {each}" for each in stream.expiring])
        return Finding(Level.LOSE, key, what, remedy)
    if stream.has_bus:
        what = "Nautilus's own message bus writes into it"
        remedy = "give MessageBusConfig.streams_prefix of that node another name"
        return Finding(Level.LOSE, key, what, remedy)
    if stream.rewound:
        remedy = f"{hints.command('audit')}; a bridge that runs sends again what its journal has"
        return Finding(Level.WARN, key, stream.rewound, remedy)
    if stream.last_ms > now_ms + AHEAD_MS_MAX:
        seconds = (stream.last_ms - now_ms) / 1000
        what = f"its last id is {seconds:.0f} s ahead of Redis's clock"
        why = "that was set back, or somebody wrote an id by hand (XADD with an id)"
        remedy = "set Redis's clock by NTP; trim by time only later"
        return Finding(Level.WARN, key, f"{what}: {why}", remedy, {"ahead_seconds": seconds})
    if stream.refused is not None:
        return stream.refused.finding(key)
    return Finding(Level.OK, key, _growth(stream, now_ms), numbers=_numbers(stream, now_ms))


def _growth(stream: Stream, now_ms: int) -> str:
    if not stream.length:
        return "empty"
    held = f"{stream.length:,} entries" if stream.length > 1 else "1 entry"
    if stream.size_bytes is not None:
        held += f", {size(stream.size_bytes)}"
    daily, daily_bytes = stream.entries_per_day(now_ms), stream.bytes_per_day(now_ms)
    if daily is None:
        return f"{held}; too young to tell its growth"
    grows = f"{held}; {daily:,.0f} entries"
    return f"{grows} a day" if daily_bytes is None else f"{grows}, {size(daily_bytes)} a day"


def _numbers(stream: Stream, now_ms: int) -> dict[str, float]:
    """Return what is known of how much a stream holds, and how fast it grows."""
    known = {
        "entries": stream.length,
        "size_bytes": stream.size_bytes,
        "entries_per_day": stream.entries_per_day(now_ms),
        "bytes_per_day": stream.bytes_per_day(now_ms),
    }
    return {name: number for name, number in known.items() if number is not None}


def market(read: Reading, maxlen: int) -> Finding:
    """Judge the streams of market data, all together."""
    name, found = "market streams", read.market_streams
    if wrong := [each for each in found if each.refused is None and each.type != "stream"]:
        kinds = ", ".join([f"{each.key} holds a {each.type}" for each in wrong])
        remedy = "; ".join([f"RENAME {each.key} {each.key}:old" for each in wrong])
        return Finding(Level.LOSE, name, f"{kinds}: nothing can be written", remedy)
    if refused := [each.refused for each in found if each.refused is not None]:
        return refused[0].finding(name)
    used = sum([each.size_bytes or 0 for each in found])
    full = sum([max(maxlen, each.length) * each.entry_bytes for each in found])
    what = f"{len(found)}, {size(used)}; {size(full)} once each holds {maxlen:,} entries"
    if (unseen := read.unseen(name, what)) is not None:
        return unseen
    numbers = {"streams": len(found), "size_bytes": used, "size_bytes_max": full}
    return Finding(Level.OK, name, what if found else "none", numbers=numbers)
