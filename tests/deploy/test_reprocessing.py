"""A view whose next version keeps more: filled from the log's start beside the live one, then it takes over.

The steps are those of CONTRIBUTING.md, "A view that keeps something else".
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from infra.stack import Stack
from tests.deploy import versions
from tests.faults.harness import LONG, Ground, a_ground, seeds, under_load

ORDERS = 300
SOME = 150
COMMAND_SECONDS = 240.0
COUNTED = "SELECT count(*) FILTER (WHERE pieces > 0), count(*) FILTER (WHERE status <> 'rejected') FROM stories"
pytestmark = [pytest.mark.stack, pytest.mark.timeout(540)]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A stack of its own: its timeline's tables become those of a version that is not released."""
    async with Stack(tmp_path / "stack") as stack, a_ground(stack) as ground:
        yield ground


async def pavane(ground: Ground, version: Mapping[str, str], *words: str, code: int) -> str:
    """What the command of that version prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", *words),
        env={**os.environ, **ground.stack.addresses.environment(), **version},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    assert process.returncode == code, f"{words}: {process.returncode}: {said.decode()}"
    return said.decode()


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_view_that_keeps_more_is_filled_beside_the_live_one_and_takes_over_while_orders_flow(
    ground: Ground, tmp_path: Path, seed: int
) -> None:
    checkout = versions.counting(tmp_path / "next")
    following = {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    async with under_load(ground, seed, ORDERS) as load:
        await load.accepted(SOME)
        await pavane(ground, following, "migrate", code=0)
        assert (await ground.rows("timeline", COUNTED))[0][0] == 0, "the live view cannot know how many pieces"

        filled = await pavane(ground, following, "rebuild", "timeline", code=1)
        assert re.search(r"records? folded in .* a second", filled)
        assert re.search(r"stories .*: pieces is 0, the facts make it [1-9]", filled), filled
        assert (await ground.rows("timeline", COUNTED))[0][0] == 0, "the live view goes on as it is"

        # From here to the start of the next version the view stands still, and nothing else does.
        await asyncio.gather(*(each.stop() for each in ground.running("timeline")))
        swapped = await pavane(
            ground, following, "rebuild", "timeline", "--swap", "--yes", "--reason", "stories say pieces", code=0
        )
        assert "Changed over. The lanes stood still for" in swapped
        await ground.ready(ground.launch("timeline", environment=following))
        await load.accepted(load.placed + SOME // 2)
    # And back: the version of before finds tables that it does not know, and leaves them.
    told = await pavane(ground, {}, "migrate", code=0)
    assert re.search(r"left as a newer version migrated it: timeline \(has \w+\)", told), told
    assert "was migrated by a newer version" in await pavane(ground, {}, "rebuild", "timeline", code=2)
    [(counted, of)] = await ground.rows("timeline", COUNTED)
    assert counted == of > ORDERS // 2, f"seed {seed}: of {of} stories {counted} say of how many pieces they are"
