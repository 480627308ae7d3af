"""Claims one bell, says so, and asks for it without end: a process to be killed between claim and outcome.

python -m tests.kit.dying_owner REDIS_URL BELL LEASE_SECONDS
"""

import asyncio
import sys

from tests.kit.bells import Bells, Ring, owner


async def main(redis: str, bell: str, lease_seconds: str) -> None:
    async def hang() -> None:
        sys.stdout.write("asking\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    async with owner(redis, Bells(hang), lease_seconds=float(lease_seconds)) as guarded:
        await guarded.ask([Ring(bell=bell)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
