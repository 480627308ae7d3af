"""Keeping the embedded servers running: one that has ended is told of, and started again where clients know it.

One that stands still is left alone: whoever stopped it may let it go on, and it keeps its connections.
"""

import asyncio
import time

from infra.errors import InfraError
from infra.server import Server
from infra.stack import Stack
from pavane.supervisor import BETWEEN_DEATH_WATCHES_SECONDS, Bounds, Pauses, Say

LAST_LINES = 5


async def keep_all(stack: Stack, say: Say, bounds: Bounds = Bounds()) -> None:
    """Each server of the stack. Never returns: it is called off, before the stack is stopped."""
    async with asyncio.TaskGroup() as group:
        for server in stack.servers:
            group.create_task(keep(server, say, bounds))


async def keep(server: Server, say: Say, bounds: Bounds = Bounds()) -> None:
    """One server, from when it runs. Never returns.

    What keeps it from coming up is said each time it is tried: a disk may be full, and somebody makes room.
    """
    pauses = Pauses(bounds)
    while True:
        begun = time.monotonic()
        while server.is_running:  # noqa: ASYNC110  # its end is no event here
            await asyncio.sleep(BETWEEN_DEATH_WATCHES_SECONDS)
        why = _how_it_ended(server)
        while not server.is_running:
            now = time.monotonic()
            pause = pauses.after_death(now, now - begun)
            say(f"\n{why}\nWhat it has acknowledged is not lost. {server.name} is started again in {pause:g} s.")
            await asyncio.sleep(pause)
            begun = time.monotonic()
            try:
                await server.start()
            except InfraError as error:
                why = str(error)
            except OSError as error:
                why = f"{server.name} could not be started: {error}."
        say(f"{server.name} runs again, with pid {server.pid}, at {server.address}.")


def _how_it_ended(server: Server) -> str:
    code = server.child.poll() if server.child is not None else None
    how = f"was ended by signal {-code}" if code is not None and code < 0 else f"has ended with exit code {code}"
    lines = server.child.log_tail(LAST_LINES) if server.child is not None else []
    tail = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
    return f"{server.name} {how}. The last lines of {server.log_file}:\n{tail}"
