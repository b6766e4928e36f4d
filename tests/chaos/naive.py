"""What people write first: `XADD *` with redis-py and its default retries. `-m tests.chaos.naive`.

The same engine and record as the bridge's. A handler puts the entry into a queue, a task sends it;
what Redis refuses is printed, and the next one is sent. SIGTERM ends it once the queue is empty.
"""

import asyncio
import os
import signal
from typing import Final
from urllib.parse import urlsplit

import redis.asyncio
import uvloop

from tests.chaos import generator

URL: Final = "CHAOS_REDIS"
PREFIX: Final = "CHAOS_PREFIX"
DRAIN_SECONDS_MAX: Final = 15.0


async def send(queue: asyncio.Queue[tuple[str, dict[str, str]]]) -> None:
    """Send what is in the queue, for ever."""
    address = urlsplit(os.environ[URL])
    client = redis.asyncio.Redis(host=str(address.hostname), port=int(address.port or 0))
    while True:
        kind, fields = await queue.get()
        try:
            await client.xadd(f"{os.environ[PREFIX]}exec:{kind}", dict(fields))
        except redis.exceptions.RedisError as error:
            print("not sent:", error)
        finally:
            queue.task_done()


async def main() -> None:
    """Trade and send until SIGTERM."""
    queue: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()
    engine = generator.from_environment(lambda kind, fields: queue.put_nowait((kind, fields)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
    sender = asyncio.create_task(send(queue))
    await engine.run()
    async with asyncio.timeout(DRAIN_SECONDS_MAX):
        await queue.join()
    sender.cancel()


if __name__ == "__main__":
    uvloop.run(main())
