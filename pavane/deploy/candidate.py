"""The version that is asked about: of the code here, of another folder's code or schemas, or one that ran before."""

import asyncio
import os
import sys
from pathlib import Path
from typing import LiteralString

import msgspec

from api.announced import announcement as of_gateway
from pavane.deploy.live import home
from pavane.instance import GATEWAY
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Reach
from streams.kit.announcing import Announcement, announcement

PATIENCE_SECONDS = 60.0
RAN: LiteralString = """
SELECT version, document, last_at FROM announced WHERE document->>'service' = %s ORDER BY last_at DESC
"""


async def candidate(reach: Reach, service: str, as_: str) -> Announcement:
    """`as_`: nothing, a folder (a checkout, or schemas for the code here), or the start of a version that ran.

    Raises `NotAsked`.
    """
    if service not in (there_are := [*reach.databases, GATEWAY]):
        raise NotAsked(f"there is no service {service!r}; there are {', '.join(there_are)}")
    if not as_:
        return of_gateway(reach.language) if service == GATEWAY else announcement(reach.find(service), reach.language)
    folder = await asyncio.to_thread(_folder, as_)
    return await (_of_folder(service, folder) if folder else _of_the_past(reach, service, as_))


def _folder(text: str) -> Path | None:
    return Path(text).resolve() if Path(text).is_dir() else None


async def _of_folder(service: str, folder: Path) -> Announcement:
    """What the code there says of itself: it is another version's, so another process imports it."""
    environment = {name: value for name, value in os.environ.items() if name != "PAVANE_SCHEMAS"}
    if (folder / "streams").is_dir():
        # Its modules before ours, and nothing from the working folder.
        environment |= {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    else:
        environment |= {"PAVANE_SCHEMAS": str(folder)}
    module = ["api.announced"] if service == GATEWAY else ["streams.kit.announcing", service]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        return msgspec.json.decode(said, type=Announcement)
    except msgspec.DecodeError:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise NotAsked(f"{folder}: no version of {service} can be read there: {last}") from None
    except TimeoutError:
        process.kill()
        raise NotAsked(f"{folder}: says nothing about {service} within {PATIENCE_SECONDS:.0f} seconds") from None


async def _of_the_past(reach: Reach, service: str, version: str) -> Announcement:
    async with reach.database(home(service), reading=True) as connection:
        cursor = await connection.execute(RAN, (service,))
        rows = await cursor.fetchall()
    found = [document for of, document, _ in rows if of.startswith(version)]
    if len(found) != 1:
        listed = ", ".join(f"{of} (last ran {at:%Y-%m-%d %H:%M})" for of, _, at in rows) or "none"
        what = "is no folder, and no version of" if not found else "is more than one version of"
        raise NotAsked(f"{version!r} {what} {service} that ran here; there are: {listed}")
    return msgspec.convert(found[0], Announcement)
