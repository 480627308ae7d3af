"""A process that starts a stack and the platform on it and supervises them, as `pavane run` does.

    python -m tests.faults.everything FOLDER TENANT

Beside that, it writes down in `FOLDER/reached.json` how a shop reaches it.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.stack import Stack
from pavane.platform import Platform
from streams.kit.shop import CUSTOMER
from tests.faults.harness import SETTINGS

REACHED = "reached.json"


async def main(folder: Path, tenant: str) -> None:
    async with Stack(folder, environment={}) as stack, Platform(stack, environment=SETTINGS) as platform:
        reached: dict[str, Any] = {
            "url": platform.gateway_url,
            "customer": platform.issuer.token(tenant, CUSTOMER),
            "operator": platform.issuer.operator_token(tenant),
            "addresses": asdict(stack.addresses),
        }
        new = folder / f"{REACHED}.new"
        new.write_text(json.dumps(reached))
        new.rename(folder / REACHED)
        await platform.supervise(print)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
