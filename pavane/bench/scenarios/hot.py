"""Everybody wants one of ten items: their stock rows are shared by all lanes and locked in turn."""

from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, rate
from pavane.bench.scenarios.drain import common_rows
from pavane.bench.scenarios.sized import drained_alone
from pavane.bench.workload import GOODS, HOT_GOODS, Shape

TITLE = "Hot items: everybody wants one of ten"
ORDERS, QUICK_ORDERS = 10_000, 1_000


async def run(given: Given) -> Result:
    count = given.options.size(ORDERS, QUICK_ORDERS)
    usual = await drained_alone(given, "usual", count, Shape(goods=GOODS))
    hot = await drained_alone(given, "hot", count, Shape(goods=HOT_GOODS))
    rows = [
        Row("whole sagas a second", [rate(usual.sagas_per_second), rate(hot.sagas_per_second)]),
        *common_rows(usual, hot),
    ]
    document = {"usual": usual.document(), "hot": hot.document(), "goods": [GOODS, HOT_GOODS]}
    return Result(TITLE, [f"one of {GOODS:,}", f"one of {HOT_GOODS}"], rows, document)
