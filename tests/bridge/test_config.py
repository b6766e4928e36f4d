"""Settings: what is taken, from where, and what is said about what is not."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from bridge.config import ConfigError, Setting, describe, load
from bridge.section import check_redis_url, safe_url
from bridge.settings import Config, ContractSettings, MarketSettings, RedisSettings, StreamSettings

URL = "redis://user:hunter2@host:6379/1"


def from_env(**variables: str) -> Config:
    return load(None, environ=variables)


def problems(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> list[str]:
    """Return what is wrong with these settings."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ or {}, overrides=overrides or {})
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


def problem(path: Path | None = None, **environ: str) -> str:
    """Return the only thing wrong with these settings."""
    (line,) = problems(path, environ)
    return line


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "bridge.toml"


# What is taken


def test_nothing_given_is_the_demo() -> None:
    """Without a file and variables every setting has its default."""
    config = load(None, environ={"PATH": "/bin", "bridge_role": "x"})

    assert config == Config()
    assert (config.role, config.redis.url, config.embedded.port) == ("demo", None, 6399)
    assert (config.exec.entries_max, config.market.subscribe) == (100_000, ("quotes", "trades"))


def test_the_later_source_wins(toml: Path) -> None:
    """Command line over environment over file over default."""
    toml.write_text("[market]\nmaxlen = 1\nentries_max = 2\nin_flight_max = 301\n")

    market = load(
        toml,
        environ={"BRIDGE_MARKET__ENTRIES_MAX": "3", "BRIDGE_MARKET__IN_FLIGHT_MAX": "302"},
        overrides={"market.in_flight_max": "303"},
    ).market

    assert (market.maxlen, market.entries_max, market.in_flight_max) == (1, 3, 303)
    assert market.instruments_max == 500


@pytest.mark.parametrize("row", describe(), ids=lambda row: row.path)
def test_every_setting_can_be_set_from_the_environment(row: Setting) -> None:
    """Each default, given as a variable, is taken and means the same."""
    text = "" if row.default in ("unset", "empty") else row.default
    name = "BRIDGE_" + row.path.replace(".", "__").upper()

    config = load(None, environ={name: text})

    # For the prefix alone, empty is a value of its own and not the default.
    changed = row.path == "streams.prefix"
    assert config == (Config(streams=StreamSettings(prefix="")) if changed else Config())


def test_every_setting_can_be_set_from_a_file(toml: Path) -> None:
    """A file may hold every section, in TOML's own types."""
    toml.write_text(
        'role = "demo"\n'
        '[redis]\nurl = "unix:///run/redis.sock?db=2"\nreconnect_seconds_max = 0.5\n'
        '[market]\nsubscribe = ["mark"]\ninstruments = ["BTCUSDT.BINANCE_SPOT"]\n'
        '[contract.venue_alias]\nDERIBIT = "DBT"\n'
        "[replay]\nrate = 1000\n"
    )

    config = load(toml, environ={})

    assert config.redis.url == SecretStr("unix:///run/redis.sock?db=2")
    assert config.redis.reconnect_seconds_max == 0.5
    assert config.market.subscribe == ("mark",)
    assert config.market.instruments == ("BTCUSDT.BINANCE_SPOT",)
    assert config.contract.venue_alias == {"DERIBIT": "DBT"}
    assert config.replay.rate == 1000


@pytest.mark.parametrize("name", ["example", "basis_carry"])
def test_a_short_name_of_a_strategy(name: str) -> None:
    """A word stands for a strategy of the repository, and the settings show what it is."""
    strategy = from_env(BRIDGE_SOURCE__STRATEGY=name).source.strategy

    module, _, cls = strategy.partition(":")
    assert f"class {cls}(" in Path(module.replace(".", "/") + ".py").read_text()


@pytest.mark.parametrize("text", ['{"A": "B", "C": "D"}', '{A = "B", C = "D"}'])
def test_a_table_in_a_variable_is_json_or_toml(text: str) -> None:
    """Both ways to write a table in one line are read, and replace the whole default."""
    alias = from_env(BRIDGE_CONTRACT__VENUE_ALIAS=text).contract.venue_alias

    assert alias == {"A": "B", "C": "D"}


def test_a_list_in_a_variable_is_comma_separated() -> None:
    """Blanks around the commas do not matter, and empty means none."""
    market = from_env(
        BRIDGE_MARKET__INSTRUMENTS="BTCUSDT.BINANCE_SPOT, ETH/USD.KRAKEN,",
        BRIDGE_MARKET__SUBSCRIBE="",
    ).market

    assert market.instruments == ("BTCUSDT.BINANCE_SPOT", "ETH/USD.KRAKEN")
    assert market.subscribe == ()


def test_an_empty_variable_unsets(toml: Path) -> None:
    """An empty URL, id, rate or folder means unset, also over a file that sets it."""
    toml.write_text(
        '[redis]\nurl = "redis://h"\n[replay]\nrate = 5\n[producer]\nid = "a"\n'
        '[state]\ndirectory = "s"\n[journal]\ndirectory = "j"\n'
    )
    names = ("REDIS__URL", "REPLAY__RATE", "PRODUCER__ID", "STATE__DIRECTORY", "JOURNAL__DIRECTORY")

    config = load(toml, environ={f"BRIDGE_{name}": "" for name in names})

    assert (config.redis.url, config.replay.rate, config.producer.id) == (None, None, None)
    assert (config.state_directory, config.journal_directory) == (None, None)


@pytest.mark.parametrize(
    ("environ", "prefix"),
    [
        ({}, ""),
        ({"BRIDGE_REDIS__URL": "redis://h"}, "demo:"),
        ({"BRIDGE_REDIS__URL": "redis://h", "BRIDGE_STREAMS__PREFIX": ""}, ""),
        ({"BRIDGE_STREAMS__PREFIX": "mine:"}, "mine:"),
    ],
)
def test_the_demo_is_kept_apart_on_a_foreign_redis(environ: dict[str, str], prefix: str) -> None:
    """Only its own Redis has unprefixed streams, unless the prefix is given, empty included."""
    assert load(None, environ=environ).stream_prefix == prefix


def test_the_producer_is_named_after_the_trader() -> None:
    """The id in force is the one given, else the trader id."""
    assert from_env(BRIDGE_NODE__TRADER_ID="DESK-7").producer_id == "DESK-7"
    assert from_env(BRIDGE_PRODUCER__ID="p1").producer_id == "p1"


@pytest.mark.parametrize(
    ("environ", "state", "journal"),
    [
        ({}, None, None),
        ({"BRIDGE_STATE__DIRECTORY": "/s"}, "/s", "/s/journal"),
        ({"BRIDGE_JOURNAL__DIRECTORY": "/j"}, "/j", "/j"),
        ({"BRIDGE_STATE__DIRECTORY": "/s", "BRIDGE_JOURNAL__DIRECTORY": "/j"}, "/s", "/j"),
    ],
)
def test_folders_in_force(environ: dict[str, str], state: str | None, journal: str | None) -> None:
    """The journal lies below the state's folder, or apart; each alone stands for both."""
    config = load(None, environ=environ)

    assert config.state_directory == (Path(state) if state else None)
    assert config.journal_directory == (Path(journal) if journal else None)


def test_a_journal_has_room_for_three_segments() -> None:
    """One that is full, one that is written, and the reserve: less is refused, with the reason."""
    sizes = {"BRIDGE_JOURNAL__SEGMENT_BYTES": "100000", "BRIDGE_JOURNAL__BYTES_MAX": "300000"}
    assert load(None, environ=sizes).journal.bytes_max == 300_000

    line = problem(None, **sizes | {"BRIDGE_JOURNAL__BYTES_MAX": "299999"})
    assert line.startswith("journal: ")
    assert "bytes_max is less than three times segment_bytes" in line


def test_settings_do_not_change() -> None:
    """A loaded setting cannot be assigned."""
    with pytest.raises(ValidationError, match="frozen"):
        Config().embedded.port = 1


# What is refused


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("role", "trader"),
        ("redis.url", "localhost:6379"),
        ("redis.url", "http://h"),
        ("redis.url", "redis://h/trading"),
        ("redis.url", "redis://h:99999"),
        ("redis.url", "redis://h?db=x"),
        ("redis.url", "unix://"),
        ("redis.start_timeout_seconds", "-1"),
        ("redis.start_timeout_seconds", "nan"),
        ("redis.reconnect_seconds_max", "0"),
        ("redis.reconnect_seconds_max", "inf"),
        ("embedded.port", "0"),
        ("embedded.port", "65536"),
        ("embedded.port", "6399.5"),
        ("streams.prefix", "a b"),
        ("streams.prefix", "{x}:"),
        ("streams.orders", ""),
        ("streams.orders", "exec:{symbol}"),
        ("streams.quotes", "market.{ticker}"),
        ("streams.quotes", "market.{symbol"),
        ("streams.quotes", "market.{{symbol}}"),
        ("streams.quotes", "market.{symbol!r}"),
        ("streams.quotes", "market.{symbol:>9}"),
        ("streams.quotes", "market.{}"),
        ("contract.venue_alias", "{A ="),
        ("producer.id", "a{b}"),
        ("producer.lease_seconds", "0.5"),
        ("producer.lease_seconds", "3601"),
        ("journal.fsync", "sometimes"),
        ("journal.retain", "-1"),
        ("journal.retain", "inf"),
        ("journal.bytes_max", "262143"),
        ("journal.segment_bytes", "65535"),
        ("exec.entries_max", "0"),
        ("exec.in_flight_max", "0"),
        ("exec.batch_entries_max", "10001"),
        ("market.entries_max", "0"),
        ("market.in_flight_max", "0"),
        ("market.maxlen", "0"),
        ("market.subscribe", "quotes,ticks"),
        ("market.subscribe", "quotes,quotes"),
        ("market.instruments", "BTCUSDT"),
        ("market.instruments_max", "0"),
        ("market.bar_types", "BTCUSDT.BINANCE-1-MINUTE"),
        ("source.factory", "integrations.nautilus.node"),
        ("source.strategy", "my strategy:X"),
        ("replay.dataset", ""),
        ("replay.rate", "0"),
        ("replay.rate", "1000001"),
        ("node.trader_id", "DEMO"),
        ("node.start_timeout_seconds", "0"),
        ("node.stop_timeout_seconds", "-1"),
        ("node.log_level", "TRACE"),
        ("status.host", ""),
        ("status.port", "-1"),
        ("log.level", "loud"),
        ("log.format", "xml"),
    ],
)
def test_a_bad_value_is_explained(path: str, text: str) -> None:
    """The line names the setting, what was given, what is allowed and where it came from."""
    (line, *_) = problems(overrides={path: text})

    allowed = {row.path: row.allowed for row in describe()}[path]
    assert line.startswith(f"{path}: ")
    assert text.split(",")[-1] in line
    assert f"; allowed: {allowed}; from command line" in line
    assert "\n" not in line


def test_the_origin_is_named(toml: Path) -> None:
    """A bad value says whether the file or a variable gave it."""
    toml.write_text("[embedded]\nport = 70000\n")

    assert problem(toml).endswith(f"; from file {toml}")
    assert problem(toml, BRIDGE_EMBEDDED__PORT="0").endswith(
        "; from environment variable BRIDGE_EMBEDDED__PORT"
    )


def test_nested_too_deeply(toml: Path) -> None:
    """Such a file is refused as any other that cannot be read."""
    toml.write_text(f"x = {'[' * 5000}")
    assert problem(toml) == f"file {toml}: it is nested too deeply"


ROLE_PROBLEMS = [
    ({"role": "shadow"}, "redis.url: the role shadow needs a Redis of yours"),
    ({"role": "shadow", "streams.prefix": ""}, "streams.prefix: simulated fills"),
    ({"role": "shadow", "cache.url": "redis://127.0.0.1"}, "cache.url: a sandbox forgets"),
    ({"role": "shadow", "shadow.execution": "venue"}, "shadow.execution = venue on real venues"),
    ({"role": "shadow", "shadow.perp_venue": "DERIBIT"}, "shadow.perp_venue: DERIBIT is not"),
    ({"role": "live"}, "live on real venues arrives in a later version"),
    ({"cache.url": "redis://127.0.0.1"}, "cache.url: a sandbox forgets"),
    ({"role": "live", "cache.url": "redis://127.0.0.1/1"}, "cache in database 0"),
    ({"role": "live", "cache.url": "redis+sentinel://h/s"}, "cache wants one server"),
    ({"role": "live", "node.purge_closed_minutes": "119"}, "may report each order again"),
]


@pytest.mark.parametrize(("given", "said"), ROLE_PROBLEMS, ids=lambda value: str(value)[:40])
def test_what_does_not_go_with_the_role(given: dict[str, str], said: str) -> None:
    """It is refused by the name of the setting, with what to do instead."""
    elsewhere = {} if said.startswith("redis.url") else {"redis.url": "redis://127.0.0.1"}
    with pytest.raises(ConfigError) as caught:
        load(None, environ={}, overrides=elsewhere | given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "prefix", "trader", "data"),
    [
        ({}, "", "DEMO-001", "replay"),
        ({"redis.url": "redis://x"}, "demo:", "DEMO-001", "replay"),
        ({"role": "shadow", "redis.url": "redis://x"}, "shadow:", "SHADOW-001", "venue"),
        (
            {"role": "live", "redis.url": "redis://x", "node.exec_client": "m:C"},
            "",
            "LIVE-001",
            "venue",
        ),
    ],
)
def test_each_role_has_its_own_names(
    given: dict[str, str], prefix: str, trader: str, data: str
) -> None:
    """Prefix, trader id and source of data differ, so that two roles never meet."""
    settings = load(None, environ={}, overrides=given)
    assert (settings.stream_prefix, settings.trader_id, settings.data) == (prefix, trader, data)


def test_all_problems_are_listed(toml: Path) -> None:
    """One run shows everything that is wrong, from all sources."""
    toml.write_text('role = "x"\n[log]\nlevle = "info"\n')

    found = problems(toml, {"BRIDGE_STATUS__PORT": "x"}, {"replay.rte": "1"})

    assert sorted(line.partition(":")[0] for line in found) == [
        "log.levle",
        "replay.rte",
        "role",
        "status.port",
    ]


@pytest.mark.parametrize(
    ("text", "name", "closest"),
    [
        ("[redis]\nulr = 1", "redis.ulr", "redis.url"),
        ("[rediss]\nurl = 1", "rediss", "redis"),
        ("rol = 1", "rol", "role"),
        ("[market]\nmax_len = 1", "market.max_len", "market.maxlen"),
    ],
)
def test_an_unknown_name_in_the_file(toml: Path, text: str, name: str, closest: str) -> None:
    """A misspelled setting or section is an error that names the closest one."""
    toml.write_text(text)

    expected = f"{name}: no such setting; the closest is {closest}; from file {toml}"
    assert problem(toml) == expected


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("BRIDGE_REDIS_URL", "BRIDGE_REDIS__URL"),
        ("BRIDGE_REDIS__ULR", "BRIDGE_REDIS__URL"),
        ("BRIDGE_", "BRIDGE_ROLE"),
    ],
)
def test_an_unknown_variable(name: str, closest: str) -> None:
    """Every BRIDGE_ variable must name a setting; the closest one is named."""
    assert problems(environ={name: URL}) == [
        f"{name}: no such setting; the closest is {closest}; from environment variable {name}"
    ]


def test_a_venue_may_not_bring_braces() -> None:
    """An alias becomes part of a stream name, where a brace would move the Cluster slot."""
    line = problem(BRIDGE_CONTRACT__VENUE_ALIAS='{"A": "{x}"}')

    assert line.startswith("contract.venue_alias: {'A': '{x}'} is refused: it is not of that form;")


def test_a_section_must_be_a_table(toml: Path) -> None:
    """A value where a section belongs is an error, and is not shown."""
    toml.write_text(f'redis = "{URL}"\n')

    assert problem(toml) == f"redis: must be a table, written [redis]; from file {toml}"


@pytest.mark.parametrize("text", ["true", "2024-01-01", "[1]", "{}"])
def test_a_value_of_another_type_is_refused(toml: Path, text: str) -> None:
    """What is no number is no port; TOML's true does not become 1."""
    toml.write_text(f"[embedded]\nport = {text}\n")

    assert problem(toml).startswith("embedded.port: ")


def test_two_kinds_may_not_share_a_stream(toml: Path) -> None:
    """Equal stream names are refused, with both keys and the origin."""
    toml.write_text('[streams]\nfills = "exec:orders"\n')

    expected = f"streams: orders and fills name the same stream; from file {toml}"
    assert problem(toml) == expected


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[redis]\nurl = \n", 2),
        (b"[redis]\n\nurl = 'redis://h", 3),
        (b"[redis]\nurl = '\xff'\n", 2),
        (b"[redis]\n[redis]\n", 2),
    ],
)
def test_a_broken_file_is_explained(toml: Path, content: bytes, line: int) -> None:
    """A file that is no TOML is named, with the line."""
    toml.write_bytes(content)

    assert problem(toml).startswith(f"file {toml}, line {line}: ")


def test_a_missing_file_is_explained(toml: Path) -> None:
    """A file that cannot be read is named, with the reason."""
    assert problem(toml) == f"file {toml}: cannot be read: No such file or directory"
    assert problem(toml.parent).endswith("cannot be read: Is a directory")


# Secrets


def test_a_password_is_never_shown() -> None:
    """Neither the settings nor their safe URL tell it; whoever connects can have it."""
    config = from_env(BRIDGE_REDIS__URL=URL)

    shown = f"{config} {config!r} {config.redis} {config.model_dump()} {config.redis.safe_url}"
    assert "hunter2" not in shown
    assert config.redis.safe_url == "redis://user:***@host:6379/1"
    assert config.redis.url is not None
    assert config.redis.url.get_secret_value() == URL


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@host/trading",
        "redis://hunter2@host/trading",
        "redis://:hunter2@host:port",
        "redis://:99/hunter2@host",
        "redis://[hunter2@host",
        "http://:hunter2@host",
        ":hunter2@host:6379",
        "redis://:hunter2\u2100@host",
        "unix://?password=hunter2",
        "redis://host/x?password=hunter2",
    ],
)
def test_a_refused_url_does_not_tell_its_password(url: str) -> None:
    """The line about a bad URL masks the password, wherever in the URL it stands."""
    line = problem(BRIDGE_REDIS__URL=url)

    assert line.startswith("redis.url: '")
    assert "hunter2" not in line


def test_a_table_in_place_of_the_url_is_not_shown(toml: Path) -> None:
    """A password in a table of its own is masked with the table."""
    toml.write_text('[redis.url]\npassword = "hunter2"\n')

    assert problem(toml).startswith("redis.url: *** is refused")


def test_an_unknown_name_does_not_tell_its_value(toml: Path) -> None:
    """A secret under a name that does not exist is not shown either."""
    toml.write_text('[redis]\npassword = "hunter2"\n')

    assert "hunter2" not in problem(toml)


def test_the_error_carries_no_other_that_tells() -> None:
    """No chained exception holds what pydantic saw."""
    with pytest.raises(ConfigError) as caught:
        from_env(BRIDGE_REDIS__URL="http://:hunter2@h")

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_section_built_by_hand_does_not_tell_either() -> None:
    """pydantic's own error text hides what it was given."""
    with pytest.raises(ValidationError) as caught:
        RedisSettings.model_validate({"url": "http://:hunter2@h"})

    assert "hunter2" not in str(caught.value)


@given(password=st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1))
def test_no_password_comes_out_of_a_refused_url(password: str) -> None:
    """Whatever the password holds, the line is the same as for any other."""
    line = problem(BRIDGE_REDIS__URL=f"http://user:{password}@host/0")

    assert line.startswith("redis.url: 'http://user:***@host/0' is refused: it does not begin")


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host",
        "redis://host:6379/15",
        "rediss://user:p%40ss@host:6380/0?ssl_cert_reqs=none",
        "redis://[::1]:6379/",
        "redis://host?db=3",
        "unix:///run/redis.sock",
        "unix://:pw@/run/redis.sock?db=1",
    ],
)
def test_good_urls_are_taken(url: str) -> None:
    """The forms that redis-py reads are allowed."""
    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h/0?no_such=1", "behind its ? may stand, once each: db, username"),
        ("rediss://h?ssl_ca_certs=/no/such", "the file cannot be used: No such file"),
        ("redis://h:99999", "it has a host that cannot be read"),
        ("redis://h/abc", "the database behind the last / is not a number"),
        ("unix://", "the path of the socket is missing"),
    ],
)
def test_bad_urls_are_explained(url: str, why: str) -> None:
    """What redis-py would fail at later, or take for something else, is refused with a reason."""
    assert why in problem(BRIDGE_REDIS__URL=url)


def test_safe_url_masks_where_the_scheme_is_missing() -> None:
    """A URL that was cut short is masked up to the host."""
    assert safe_url("user:hunter2@host:6379") == "***@host:6379"
    assert safe_url("host:6379") == "host:6379"


# The table of settings


def test_the_table_is_complete() -> None:
    """Every setting has a description and says what is allowed; numbers have a bound."""
    for path, default, allowed, description in describe():
        assert description.endswith("."), path
        assert allowed, path
        if default.replace(".", "", 1).isdecimal():
            assert re.search(r"[<>]", allowed), path


def test_the_table_shows_unit_bounds_and_choices() -> None:
    """Rows as the README prints them."""
    rows = {row.path: row for row in describe()}

    assert rows["redis.url"].default == "unset"
    assert rows["market.instruments"].default == "empty"
    assert rows["market.subscribe"][1:3] == ("quotes,trades", "any of quotes trades mark funding")
    assert rows["replay.rate"].allowed == "events per second, > 0, <= 1000000"
    assert rows["log.format"].allowed == "one of auto console json"
    assert tomllib.loads(f"x = {rows['exec.entries_max'].default}") == {"x": 100_000}


def test_sections_are_importable_with_defaults() -> None:
    """Parts and their tests can build one section without a file."""
    assert StreamSettings().quotes == "market.raw.{asset}.{symbol}"
    assert MarketSettings(maxlen=5).maxlen == 5
    assert ContractSettings().venue_alias["BINANCE_SPOT"] == "BINANCE"
