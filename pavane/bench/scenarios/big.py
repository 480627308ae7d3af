"""Orders of a hundred lines: a hundred prices, a hundred stock rows each."""

from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, rate
from pavane.bench.scenarios.drain import common_rows
from pavane.bench.scenarios.sized import drained_alone
from pavane.bench.workload import MOST_LINES, Shape, only

TITLE = f"Big orders: {MOST_LINES} lines each"
ORDERS, QUICK_ORDERS = 1_000, 100


async def run(given: Given) -> Result:
    count = given.options.size(ORDERS, QUICK_ORDERS)
    big = await drained_alone(given, "big-orders", count, Shape(lines=only(MOST_LINES)))
    rows = [
        Row("whole sagas a second", [rate(big.sagas_per_second)]),
        Row("order lines a second", [rate(big.sagas_per_second * MOST_LINES)]),
        *common_rows(big),
    ]
    return Result(TITLE, [f"{MOST_LINES} lines"], rows, {"big": big.document(), "lines": MOST_LINES})
