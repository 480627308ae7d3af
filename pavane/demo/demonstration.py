"""The demonstration from start to end: a stack, the platform, a shop, its orders, and the count."""

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

from infra.cache import cache_folder
from infra.errors import InfraError
from infra.stack import Stack
from pavane.audit import audit
from pavane.demo import cdnow, closing, goods, plan
from pavane.demo.checkout import Checkout
from pavane.demo.farewell import stay
from pavane.demo.outcomes import Outcomes
from pavane.demo.plan import Order, Outcome, Plan
from pavane.demo.progress import shown_on
from pavane.demo.traffic import CONNECTIONS, Timed, Traffic
from pavane.lines import Lines
from pavane.platform import Platform

T = TypeVar("T")


class Options(NamedTuple):
    """What the user chose. `orders`: how many to place now; None: all that are left."""

    data: Path
    orders: int | None
    seed: int
    keep: bool


class OtherSeed(InfraError):
    """The orders in the data folder were chosen by another seed."""

    def __init__(self, options: Options, before: int) -> None:
        super().__init__(
            f"The orders in {options.data} were chosen by SEED={before}, so what they must come to is not what "
            f"SEED={options.seed} asks for. Leave SEED out, or choose another folder with DATA=."
        )


class ServiceDied(InfraError):
    """A process of the platform ended while orders ran."""


async def demonstrate(options: Options) -> int:
    """Run it; 0 when everything came to what it must, else 1."""
    begun = time.monotonic()
    lines = Lines()
    lines.say(f"Pavane: orders of a real shop through choreographed services. Data folder {options.data}, seed {seed_of(options)}.")
    reading = asyncio.create_task(_read_plan(options, lines))
    async with AsyncExitStack() as stacks:
        stacks.callback(reading.cancel)
        lines.heading("The stack")
        stack = Stack(options.data)
        await stack.start(lines.part)
        stacks.push_async_callback(stack.stop)
        note_seed(options)
        lines.heading("The platform")
        platform = await stacks.enter_async_context(Platform(stack, on_step=lines.step))
        lines.heading("The shop")
        right = await unless_one_dies(platform, _trade(platform, await reading, options, lines, begun))
        if options.keep:
            await stay(platform, lines)
    return 0 if right else 1
