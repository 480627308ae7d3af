"""The same drain by 1, 2 and 4 workers a service over three brokers, each record kept by all three.

One machine cannot show that more machines finish more: all share its cores. It shows that the results are the same
(every end, every invariant), what a further worker costs, and which part would be the first limit: it compares the
processor time of the busiest single process with the time that passed.
"""

import os

from infra.addresses import KAFKA
from pavane.bench.drain import Drained, drain
from pavane.bench.ground import ground
from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, percent, rate
from pavane.bench.scenarios.drain import common_rows
from pavane.bench.workload import Shape, Workload

TITLE = "Scale: 1, 2 and 4 workers a service over three brokers"
ORDERS, QUICK_ORDERS = 10_000, 1_000
WORKERS = (1, 2, 4)
BROKERS = 3
FAILING = 0.10


async def run(given: Given) -> Result:
    count = given.options.size(ORDERS, QUICK_ORDERS)
    # A Kafka of the user's own has as many brokers as it has.
    brokers = 1 if os.environ.get(KAFKA) else BROKERS
    drains = [await _drained(given, count, brokers, workers) for workers in WORKERS]
    columns = [f"{workers} worker{'s' if workers > 1 else ''}" for workers in WORKERS]
    rows = [
        Row("whole sagas a second", [rate(each.sagas_per_second) for each in drains]),
        Row("busiest process, of one core", [_busiest(each) for each in drains]),
        *common_rows(*drains),
    ]
    notes = ["The same orders, one in ten failing in all the ways: every end checked, every audit clean."]
    return Result(TITLE, columns, rows, dict(zip(columns, (each.document() for each in drains), strict=True)), notes)


async def _drained(given: Given, count: int, brokers: int, workers: int) -> Drained:
    orders = Workload("scale", count, Shape(failing=FAILING), seed=given.options.seed)
    async with ground(given.folder(f"workers-{workers}"), brokers=brokers, workers=workers) as (place, usage):
        with given.progress.doing(f"{count:,} orders, {workers} of each service") as step:
            return await drain(place, usage, orders, step.facts)


def _busiest(drained: Drained) -> str:
    name, seconds = max(drained.cpu_seconds.items(), key=lambda each: each[1])
    return f"{name} {percent(seconds / drained.seconds)}"
