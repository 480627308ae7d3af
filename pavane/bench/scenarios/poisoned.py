"""One order in a hundred makes billing's decision raise, and is parked with what follows it; none, in turn.

Both are drained by the same billing with the same bug (`pavane.bench.poisoned`), on one stack, in turn, twice. At the
end the poisoned orders are still placed: parked, until somebody redrives them.
"""

import os
import statistics

from pavane.bench.drain import Drained, drain
from pavane.bench.ground import Ground, ground
from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, percent, rate
from pavane.bench.workload import Shape, Workload
from pavane.instance import Instance

TITLE = "Poisoned: one order in a hundred makes a decision raise"
ORDERS, QUICK_ORDERS = 5_000, 500
POISONED = 0.01
TURNS = 2


async def run(given: Given) -> Result:
    count = given.options.size(ORDERS, QUICK_ORDERS)
    clean: list[Drained] = []
    poisoned: list[Drained] = []
    async with ground(given.folder("poisoned")) as (place, usage):
        await _plant_the_bug(place)
        for turn in range(TURNS):
            for share, found in ((0.0, clean), (POISONED, poisoned)):
                workload = Workload(f"turn-{turn}-{share:g}", count, Shape(poisoned=share), given.options.seed)
                with given.progress.doing(f"{count:,} orders, {percent(share)} poisoned") as step:
                    # In the first turn nothing is parked before the poisoned orders come.
                    has_parked = share > 0 or turn > 0
                    found.append(await drain(place, usage, workload, step.facts, has_parked=has_parked))
    without, with_them = (statistics.mean(each.sagas_per_second for each in found) for found in (clean, poisoned))
    rows = [
        Row("sagas a second, mean", [rate(without), rate(with_them)]),
        *(
            Row(f"  turn {turn + 1}", [rate(clean[turn].sagas_per_second), rate(poisoned[turn].sagas_per_second)])
            for turn in range(TURNS)
        ),
        Row("parked orders", ["0", f"{sum(each.ended['PLACED'] for each in poisoned):,}"]),
        Row("as fast as without", ["", percent(with_them / without)]),
    ]
    document = {
        "none": [each.document() for each in clean],
        "one_in_a_hundred": [each.document() for each in poisoned],
        "share": round(with_them / without, 4),
    }
    return Result(TITLE, ["none", "1 %"], rows, document)


async def _plant_the_bug(place: Ground) -> None:
    [sound] = place.platform.children["billing"]
    await sound.stop()
    environment = {**os.environ, **place.addresses.environment(), "PAVANE_MANAGEMENT_PORT": "0"}
    log_file = sound.log_file.with_name("billing-poisoned.log")
    module = ("pavane.bench.poisoned", "billing")
    place.platform.children["billing"].append(Instance("billing", 2, environment, log_file, module))
    await place.platform.heard("orders", timeout_seconds=60.0)
