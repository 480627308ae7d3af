"""One drain on a stack of its own: what several scenarios are made of."""

from pavane.bench.drain import Drained, drain
from pavane.bench.ground import ground
from pavane.bench.scenario import Given
from pavane.bench.workload import Shape, Workload


async def drained_alone(given: Given, name: str, orders: int, shape: Shape, partitions: int | None = None) -> Drained:
    """A fresh stack, `orders` orders of that shape, and nothing else. Raises `NotProven`."""
    workload = Workload(name, orders, shape, given.options.seed)
    async with ground(given.folder(name), partitions) as (place, usage):
        with given.progress.doing(f"{orders:,} orders, {name}") as step:
            return await drain(place, usage, workload, step.facts)
