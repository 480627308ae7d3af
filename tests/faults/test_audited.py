"""The audit itself under test on the real parts: calm while orders flow, and blind to nothing once they have ended."""

import os
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pavane.audit import audit
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.looking import looked_at
from tests.pavane.finished import Run
from tests.pavane.mutations_of_log import OF_ROWS, OF_THE_LOG
from tests.pavane.mutations_of_orders import OF_ORDERS

ORDERS = 120
FIRST_ORDERS = 20
LOOKS = 3


@pytest.fixture(scope="module")
def shared_ground(own_ground: Ground) -> Ground:
    """A short run of its own: a copy of it is broken many times."""
    return own_ground


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_an_audit_is_calm_while_orders_flow_and_names_whatever_is_broken_in_a_finished_run(
    ground: Ground, seed: int, tmp_path: Path
) -> None:
    kept = tmp_path / "checkpoint"
    environment = {**os.environ, **ground.stack.addresses.environment()}
    unsettled: Counter[str] = Counter()
    async with under_load(ground, seed, ORDERS) as load:
        put_garbage(ground)
        for look in range(1, LOOKS + 1):
            await load.accepted(look * FIRST_ORDERS)
            report = await audit(environment, kept)
            assert (report.since is not None) is (look > 1)
            assert {each.name: each.violations for each in report.verdicts if not each.clean} == {}
            unsettled.update({each.name: each.unsettled for each in report.verdicts})
    assert unsettled["orders-end"] and unsettled["nothing-lost"], f"nothing was under way: {unsettled}"
    gone_on, anew = await audit(environment, kept), await audit(environment)
    assert (gone_on.since is not None, anew.since) == (True, None)
    assert gone_on.verdicts == anew.verdicts, "what was read before is as good as what is read now"
    finished = looked_at(environment)
    assert finished.broken() == {}
    unnamed = []
    for mutation in (*OF_ORDERS, *OF_THE_LOG, *OF_ROWS):
        run = Run(finished)
        mutation.plant(run)
        said = run.look.broken().get(mutation.verdict, ())
        if mutation.words.format_map(vars(run)) not in "\n".join(said):
            unnamed.append(f"{mutation.name}: {mutation.verdict} says {said or 'nothing'}")
    assert unnamed == []


def put_garbage(ground: Ground) -> None:
    """A request that nobody can read: a dead letter."""
    producer = Producer({"bootstrap.servers": ground.stack.addresses.kafka_bootstrap, "partitioner": "murmur2_random"})
    producer.produce("orders.requests", key=b"garbage", value=b"\x01")
    assert producer.flush(10.0) == 0
