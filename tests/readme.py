"""The generated parts of the README, made from the code they describe.

`python -m tests.readme` writes them between their markers; `tests/test_docs.py` compares.
"""

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from bridge import config
from bridge.core import contract
from bridge.core.contract import STREAMS, TAIL, FieldType, Stream
from bridge.metrics import Metrics
from tests.bench import sizes
from tests.chaos import report

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RECORDED = ROOT / "integrations/nautilus/recorded_entries.json"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
QUOTE = ("107000.04", "0.27841", "107000.05", "0.00467", "107000.045", "1782212050455243591")


def table(head: str, rows: Iterator[str]) -> str:
    """Return a Markdown table; `head` and each row are cells with bars between them."""
    columns = head.count("|") + 1
    return "\n".join([f"| {head} |", "|---" * columns + "|", *(f"| {row} |" for row in rows)])


def streams() -> str:
    """Return every stream with its fields in wire order."""
    rows = (
        f"`{stream.template}` | {_names(stream, [*stream.documented])} |"
        f" {_names(stream, [*stream.added])}{_tail(stream)}"
        for stream in STREAMS.values()
    )
    return table("stream | documented fields | added fields", rows)


def _names(stream: Stream, names: list[str]) -> str:
    return ", ".join(f"{n}?" if may_be_empty(stream.fields[n]) else n for n in names)


def _tail(stream: Stream) -> str:
    if not stream.tailed:
        return ""
    return (", " if stream.added else "") + ", ".join(TAIL)


def may_be_empty(field: FieldType) -> bool:
    """Return whether the empty string is a value of the field."""
    return re.search(field.pattern, "") is not None


def words() -> str:
    """Return the fields that hold one of a closed set of words, with the words."""
    return "Words: " + "; ".join(f"`{name}`: {said}" for name, said in _words().items()) + "."


def _words() -> dict[str, str]:
    owners: dict[tuple[str, str], list[str]] = {}
    for stream in STREAMS.values():
        for name, field in stream.fields.items():
            if re.fullmatch(r"\^\([\w|]+\)\$", field.pattern):
                said = " ".join(field.pattern[2:-2].strip("|").split("|"))
                owners.setdefault((name, said), []).append(stream.kind)
    single = {name for name, _ in owners if [key for key, _ in owners].count(name) == 1}
    return {
        name if name in single else f"{'`, `'.join(f'{kind}.{name}' for kind in kinds)}": said
        for (name, said), kinds in owners.items()
    }


def examples() -> str:
    """Return a fill and a quote as they stand in Redis."""
    recorded = json.loads(RECORDED.read_text())
    fill = next(tuple(values) for kind, values in recorded if kind == "fills")
    tail = ("SELFTEST-001.5e1f0a9c.1", "1", "5", "1")
    lines = [*_example("fills", (*fill, *tail)), *_example("quotes", (*QUOTE, "BINANCE"))]
    return "\n".join(["```text", *lines, "```"])


def _example(kind: str, values: tuple[str, ...]) -> list[str]:
    fields = contract.to_dict(kind, values)
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    key = STREAMS[kind].template.format(asset="crypto", symbol="BTCUSDT")
    return textwrap.wrap(
        f"{key}  {text}",
        width=100,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def settings() -> str:
    """Return every setting, as `config.describe` lists them."""
    rows = (
        f"`{row.path}` | {_code(row.default)} | {row.allowed} | {row.description}"
        for row in config.describe()
    )
    return table("setting | default | unit, form, bounds | meaning", rows)


def _code(default: str) -> str:
    return default if default in ("unset", "empty") else f"`{default}`"


def metrics() -> str:
    """Return every metric of the bridge with its labels and their values."""
    return table("metric | type | labels | meaning", _metrics())


def _metrics() -> Iterator[str]:
    own = Metrics()
    own.set_info(version="", nautilus_version="", role="")
    for family in own.registry.collect():
        if not family.name.startswith("nautilus_bridge"):
            continue
        labels: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for name, value in sample.labels.items():
                if name != "le":
                    labels.setdefault(name, {})[value] = None
        shown = "; ".join(f"{name}: {', '.join(each)}".strip(": ") for name, each in labels.items())
        name = f"{family.name}_info" if family.type == "info" else family.name
        yield f"`{name}` | {family.type} | {shown} | {family.documentation}"


TABLES: dict[str, Callable[[], str]] = {
    "chaos": report.bridge_table,
    "naive": report.naive_table,
    "sizes": sizes.tables,
    "streams": streams,
    "words": words,
    "examples": examples,
    "settings": settings,
    "metrics": metrics,
}


def render(text: str) -> str:
    """Return `text` with every marked part made anew. Raises KeyError for an unknown marker."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    README.write_text(render(README.read_text()))
