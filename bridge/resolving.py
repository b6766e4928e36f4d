"""Host names to addresses, on threads of our own.

A lookup cannot be broken off: one that hangs keeps its thread. An event loop has few threads for
it, and asyncio.run waits for them: one name server that is silent would stop every other lookup.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Final

# So long a name that was known before is waited for; then it is where it was.
MOMENT_SECONDS: Final = 0.25

type Addresses = tuple[str, ...]

_lock = threading.Lock()
_lookups: dict[str, Future[Addresses]] = {}
_known: dict[str, Addresses] = {}


async def connected[T](host: str, connect: Callable[[str], Awaitable[T]]) -> T:
    """Return what `connect` makes of the first address of a host with which it does not fail.

    Raises OSError, its own where all addresses fail in the same way; UnicodeError for what can be
    no name.
    """
    errors: list[OSError] = []
    for address in await addresses(host):
        try:
            return await connect(address)
        except ssl.SSLError:  # it is there
            raise
        except OSError as error:
            errors.append(error)
    if len({str(each) for each in errors}) == 1:
        raise errors[0]
    raise OSError(f"Multiple exceptions: {', '.join(map(str, errors))}")


async def addresses(host: str) -> Sequence[str]:
    """Return the addresses of a host, at least one; those known last where the name server takes
    longer than a moment. Raises OSError, UnicodeError."""
    if _is_address(host):
        return (host,)
    with _lock:
        known = _known.get(host)
        lookup = _lookups.get(host) or _begin(host)
    try:
        found = asyncio.wrap_future(lookup)
        return await asyncio.wait_for(found, MOMENT_SECONDS if known else None)
    except TimeoutError:
        if known:
            return known
        raise


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _begin(host: str) -> Future[Addresses]:
    """Look a name up on a thread of its own."""
    lookup: Future[Addresses] = Future()
    lookup.set_running_or_notify_cancel()  # who waits no longer does not cancel it for others
    try:
        threading.Thread(target=_look_up, args=(host, lookup), name="lookup", daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"{host} cannot be looked up: {error}") from None
    _lookups[host] = lookup
    return lookup


def _look_up(host: str, lookup: Future[Addresses]) -> None:
    try:
        found = _addresses_of(host)
    except Exception as error:  # noqa: BLE001 - who waits for the lookup raises it
        with _lock:
            del _lookups[host]
        lookup.set_exception(error)
    else:
        with _lock:
            del _lookups[host]
            _known[host] = found
        lookup.set_result(found)


def _addresses_of(host: str) -> Addresses:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    # Unlike the address that was found, its text tells the interface where it is of one.
    return tuple([socket.getnameinfo(each, numeric)[0] for *_, each in found])
