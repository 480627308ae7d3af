"""One instance of the counter service, until it is killed.

python -m tests.faults.dying_counter NAME KAFKA DATABASE_URL
"""

import asyncio
import sys

from tests.kit.counter import make_counter
from tests.kit.running import counting


async def main(name: str, kafka: str, database: str) -> None:
    async with counting(await make_counter(name), kafka, database) as service:
        await service.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
