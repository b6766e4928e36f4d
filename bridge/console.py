"""What the daemon says to the person at its terminal."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bridge import exits
from bridge.config import ConfigError
from bridge.controller import Keys
from bridge.core import contract, control
from bridge.core.contract import Names
from bridge.endpoints import Cluster, Endpoint
from bridge.exits import Exit
from bridge.settings import Config

# Market events that were conflated, dropped or refused on the way.
LOST = ("nautilus_bridge_market_conflated_total", "nautilus_bridge_market_dropped_total")
# What redis-cli calls the options of a URL.
CLI_TLS = {"ssl_ca_certs": "--cacert", "ssl_certfile": "--cert", "ssl_keyfile": "--key"}


def told(run: Callable[[], int]) -> int:
    """Return the exit code of `run`; what it ends with is said on stderr, without a traceback."""
    try:
        return run()
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return exits.CONFIGURATION
    except Exit as error:
        sys.stderr.write(f"{error}\n")
        return error.code


def banner(config: Config, names: Names, *, redis: str, status: str) -> Iterator[str]:
    """Yield where everything is: `redis` as it may be shown, `status` the server's base URL."""
    kinds = [*config.market.subscribe, *(["bars"] if config.market.bar_types else [])]
    yield f"role {config.role}, strategy {config.source.strategy}, Redis {redis}"
    asks = "" if config.status.token is None else "   asks for the token: open /?token=... once"
    yield f"page     {status}/{asks}"
    yield f"metrics  {status}/metrics   health  {status}/health"
    yield "streams  " + "  ".join([names.key(kind) for kind in contract.EXEC_KINDS])
    yield "         " + "  ".join([names.prefix + names.templates[kind] for kind in kinds])


def examples(endpoint: Endpoint, names: Names, role: str) -> Iterator[str]:
    """Yield redis-cli lines to try. They work as they stand, from the repository's root."""
    cli = redis_cli(endpoint)
    has_secret = endpoint.locate_now().password is not None
    secret = " (REDISCLI_AUTH must hold the password)" if has_secret else ""
    yield f"to try, in another terminal{secret}:"
    for words in (
        ("xrevrange", names.key("fills"), "+", "-", "count", "2"),
        ("xread", "block", "0", "streams", names.key("orders"), "$"),
        ("hgetall", names.prefixed(contract.METRICS_KEY)),
        ("get", names.prefixed(contract.CONTRACT_KEY)),
        ("set", control.MODE_KEY, "halt"),
        ("hgetall", Keys.of(role).state),
        ("set", control.MODE_KEY, "normal"),
        ("set", control.FLAG_OF_ROLE[role], "1"),
    ):
        yield f"  {shlex.join([*cli, *words])}"
    yield "Ctrl-C ends it."


def redis_cli(endpoint: Endpoint) -> list[str]:
    """Return how to call redis-cli for the primary of now, without its password."""
    target = endpoint.locate_now()
    tools = Path(".tools/bin/redis-cli")
    found = shutil.which("redis-cli")
    # The Makefile puts .tools/bin on our PATH; another terminal does not have it there.
    ours = tools.exists() and (found is None or Path(found).samefile(tools))
    words = [str(tools) if ours else "redis-cli"]
    if target.path is not None:
        words += ["-s", target.path]
    else:
        words += [] if target.host in ("127.0.0.1", "localhost") else ["-h", target.host]
        words += ["-p", str(target.port)]
    words += ["-n", str(target.db)] if target.db else []
    words += ["--user", target.username] if target.username else []
    words += ["-c"] if isinstance(endpoint, Cluster) else []
    if target.tls is not None:
        words += ["--tls"] if target.tls.verify_mode else ["--tls", "--insecure"]
        for name, option in CLI_TLS.items():
            words += [option, target.tls_options[name]] if name in target.tls_options else []
    return words


def summary(now: Mapping[str, str], state: str) -> str:
    """Return how it stands, for `systemctl status`: `now` as `Metrics.snapshot` gives it."""
    return (
        f"{state}; orders {now['nautilus_bridge_orders_published']}"
        f", fills {now['nautilus_bridge_fills_published']}"
        f", waiting {now['nautilus_bridge_exec_backlog']} exec,"
        f" {now['nautilus_bridge_market_backlog']} market"
    )


def status_line(now: Mapping[str, str], rate: int, state: str) -> str:
    """Return the line of one second: `now` as `Metrics.snapshot` gives it."""
    lost = sum([int(now[name]) for name in LOST])
    return (
        f"{time.strftime('%H:%M:%S')}  events {now['nautilus_bridge_events_processed']}"
        f"  orders {now['nautilus_bridge_orders_published']}"
        f"  fills {now['nautilus_bridge_fills_published']}  entries/s {rate}"
        f"  backlog {now['nautilus_bridge_exec_backlog']} exec,"
        f" {now['nautilus_bridge_market_backlog']} market"
        f"{f', lost {lost}' if lost else ''}  {state}"
    )


def farewell(
    unpublished: Mapping[str, int], problem: str | None, *, lost: int, journal: Path | None
) -> str:
    """Return the last line. `lost`: market events conflated, dropped or refused on the way;
    `journal`: where execution entries wait for the next start, None when they do not."""
    if unpublished["exec"] and journal is not None:
        return (
            f"stopped; not published yet: {unpublished['exec']} execution entries, which "
            f"{journal} keeps for the next start ({problem or 'Redis was too slow'})"
        )
    if any(unpublished.values()):
        return (
            f"stopped; NOT published, and lost: {unpublished['exec']} execution entries, "
            f"{unpublished['market']} market events ({problem or 'Redis was too slow'})"
        )
    but = f", but for {lost} market events conflated or dropped on the way" if lost else ""
    return f"stopped; everything is published{but}"
