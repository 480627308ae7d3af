"""The same drain with 4, 16 and 64 partitions; and, where asked for, with many orders there already.

`--growth 1000000` first lets a million orders through, which takes as long as it takes, then drains the usual number
on top of them. The history is not audited (the audit holds every order in memory), but the end of every order that is
measured is checked.
"""

import os

from infra.addresses import KAFKA
from pavane.bench.drain import Drained, drain
from pavane.bench.ground import ground
from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, percent, rate
from pavane.bench.scenarios.drain import common_rows
from pavane.bench.scenarios.sized import drained_alone
from pavane.bench.workload import Shape, Workload

TITLE = "Growth: more partitions, and a long history"
ORDERS, QUICK_ORDERS = 10_000, 1_000
PARTITIONS = (4, 16, 64)
#: So many orders of the history are on the log at once.
AT_ONCE = 50_000


async def run(given: Given) -> Result:
    count = given.options.size(ORDERS, QUICK_ORDERS)
    columns, drains = [], []
    # A Kafka of the user's own has its topics already, with as many partitions as they have.
    for partitions in () if os.environ.get(KAFKA) else PARTITIONS:
        columns.append(f"{partitions} partitions")
        drains.append(await drained_alone(given, f"partitions-{partitions}", count, Shape(), partitions))
    if given.options.growth:
        columns += ["at first", f"after {given.options.growth:,}"]
        drains += await _with_history(given, count)
    rows = [
        Row("whole sagas a second", [rate(each.sagas_per_second) for each in drains]),
        Row("of the first column", [percent(each.sagas_per_second / drains[0].sagas_per_second) for each in drains]),
        *common_rows(*drains),
    ]
    return Result(TITLE, columns, rows, dict(zip(columns, (each.document() for each in drains), strict=True)))


async def _with_history(given: Given, count: int) -> list[Drained]:
    seed, left = given.options.seed, given.options.growth
    async with ground(given.folder("history")) as (place, usage):
        with given.progress.doing(f"{count:,} orders, nothing before them") as step:
            first = await drain(place, usage, Workload("first", count, seed=seed), step.facts, is_audited=False)
        number = 0
        while left > 0:
            part = Workload(f"history-{number}", min(AT_ONCE, left), seed=seed)
            with given.progress.doing(f"history: {left:,} orders to go") as step:
                await drain(place, usage, part, step.facts, is_audited=False)
            left, number = left - AT_ONCE, number + 1
        with given.progress.doing(f"{count:,} orders after {given.options.growth:,}") as step:
            last = await drain(place, usage, Workload("last", count, seed=seed), step.facts, is_audited=False)
    return [first, last]
