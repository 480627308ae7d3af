"""What cannot be heard with others is heard one by one, lane by lane in turn, and finds the rows as they are."""

from typing import Any, cast

import pytest
from msgspec.structs import replace

from api.events import ReceiveStock
from streams.inventory.model import Stock
from streams.inventory.service import inventory
from streams.kit.batch import Batches
from streams.kit.codec import Codec
from streams.kit.errors import Refused
from streams.kit.kafka import partition_of
from streams.kit.lane import Draft, Holding, Lane
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.settings import WorkerSettings
from streams.kit.store import BatchRefused
from streams.kit.worker import Worker
from tests.kit.counter import SchemaIds, make_counter
from tests.kit.folding import NOON
from tests.pavane.audited import PARTITIONS, Database

LANES = 4


def push(lane: Lane, topic: str, *records: tuple[bytes, bytes]) -> None:
    first = lane.positions[topic] + lane.queued(topic)
    for offset, (key, value) in enumerate(records, first):
        lane.push(Record(topic, lane.partition, offset, 0, key, value, ()))


async def test_a_lane_whose_batch_was_refused_is_heard_one_by_one_however_little_others_have() -> None:
    counter = await make_counter()
    settings = WorkerSettings(kafka="", registry="", database="")
    nobody = cast("Any", None)
    worker = Worker(counter.service, nobody, nobody, counter.codec, None, settings, lambda key: 0)
    for partition in (0, 1):
        holding = Holding(1, dict.fromkeys(counter.service.topics, 0), {}, 0, 0)
        worker.lanes[partition] = Lane(counter.name, partition, counter.service.topics, holding)
    push(worker.lanes[1], counter.requests, *[(b"k", b"v")] * 500)

    heard = {0: 0, 1: 0}

    def batch() -> list[Draft]:
        """One record more comes to lane 0 with each."""
        push(worker.lanes[0], counter.requests, (b"k", b"v"))
        return [draft for draft in worker._drafts() if draft.moved]

    def refuse(drafts: list[Draft]) -> None:
        for draft in drafts:
            draft.lane.put_back(draft)
        worker._do_again(drafts, BatchRefused("a value"))

    refuse(batch())
    for _ in range(20):
        drafts = batch()
        [delivery] = [delivery for draft in drafts for delivery in draft.deliveries]
        if delivery.record.partition == 1:
            break
        heard[0] += 1
        drafts[0].lane.adopt(drafts[0])
        worker._count_down(drafts)
    assert heard[0] == 1

    refuse(drafts)
    worker._one_by_one = {1: 1}
    drafts = batch()
    drafts[0].lane.adopt(drafts[0])
    worker._count_down(drafts)
    assert {draft.lane.partition for draft in batch()} == {0, 1}


async def test_a_row_that_records_of_two_lanes_name_is_heard_of_one_by_one() -> None:
    codec = Codec(Language.load(), SchemaIds())
    await codec.prepare("inventory.requests", [ReceiveStock])
    value = codec.encode(ReceiveStock(tenant="shop", sku="lamp", quantity=10, request_id="r-1"))
    lanes = {p: Lane("inventory", p, inventory.topics, Holding(1, {}, {}, 0, 0)) for p in range(LANES)}
    right = b"shop/lamp"
    home = partition_of(right, LANES)
    wrong = next(key for key in (b"lamp%d" % n for n in range(99)) if partition_of(key, LANES) != home)
    for key in (right, wrong):
        push(lanes[partition_of(key, LANES)], "inventory.requests", (key, value))
    batches = Batches(inventory, codec, cast("Any", None), None, lambda key: partition_of(key, LANES), lambda: NOON)
    drafts = [lane.order(10) for lane in lanes.values()]
    with pytest.raises(BatchRefused, match=r"name the row shop/lamp/r-1"):
        await batches.run(drafts, dict.fromkeys(range(LANES), 0))


async def test_requests_of_two_lanes_that_may_not_be_stored_are_put_aside_among_all_others() -> None:
    codec = Codec(Language.load(), SchemaIds())
    await codec.prepare("inventory.requests", [ReceiveStock])
    await codec.prepare("inventory", inventory.says.values())
    right = ReceiveStock(tenant="shop", sku="lamp", quantity=10, request_id="r-1")
    wrong = codec.encode(replace(right, request_id="a/b"))
    lanes = {p: Lane("inventory", p, inventory.topics, Holding(1, {}, {}, 0, 0)) for p in range(PARTITIONS)}
    keys = [next(key for key in (b"k%d" % n for n in range(99)) if partition_of(key, PARTITIONS) == p) for p in (0, 1)]
    for key, value in ((keys[0], wrong), (keys[1], wrong), (b"shop/lamp", codec.encode(right))):
        push(lanes[partition_of(key, PARTITIONS)], "inventory.requests", (key, value))
    store = cast("Any", Database())
    batches = Batches(inventory, codec, store, None, lambda key: partition_of(key, PARTITIONS), lambda: NOON)

    fold = await batches.run([lane.order(10) for lane in lanes.values()], dict.fromkeys(range(PARTITIONS), 0))

    assert [(one.key.encode(), type(error)) for one, error in fold.put_aside] == [(key, Refused) for key in keys]
    assert store.rows[Stock]["shop/lamp"].on_hand == 10
