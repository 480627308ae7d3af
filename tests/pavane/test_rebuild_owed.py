"""What a lane still owes when its database is lost, found in a log in memory."""

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pavane.rebuild import beside, folding, owed
from pavane.rebuild.rebuilding import Rebuild
from streams.kit.codec import Codec
from streams.kit.events import State
from streams.kit.kafka import partition_of
from streams.kit.run import find
from tests.pavane.audited import LANGUAGE, PARTITIONS, Ids, Shop
from tests.pavane.test_rebuild_gaps import Reading

LAMP = "shop/lamp"


async def parked_again(shop: Shop, name: str, partition: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What of this lane is parked again when its database is made from the log: number in its topic, why, whether it
    holds its key."""
    database = shop.instances[name].database

    async def load(connection: object, state: type[State], keys: Collection[str]) -> Sequence[State]:
        return [row for key, row in database.rows.get(state, {}).items() if key in keys]

    monkeypatch.setattr(folding, "load", load)
    rebuild = SimpleNamespace(
        service=find(name),
        codec=Codec(LANGUAGE, Ids()),
        log=Reading(shop.log),
        partition_of=lambda key: partition_of(key, PARTITIONS),
        end=lambda topic, partition: len(shop.log.get((topic, partition), ())),
    )
    lane = beside.Lane(partition, {name: rebuild.end(name, partition)}, database.lanes[partition].clock, 0)
    found = await owed.owed_of(cast("Rebuild", rebuild), cast("beside.Connection", None), lane)
    return [(each.record.offset, each.reason, each.holds) for each in found.parked]


def adjust(shop: Shop, quantity: int, request_id: str) -> None:
    shop.ask(
        "inventory.requests", "AdjustStock", LAMP, sku="lamp", quantity=quantity, reason="lost", request_id=request_id
    )


async def test_a_refused_request_waits_for_its_redrive_whatever_of_its_key_was_handled_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    shop.stock("lamp", 2)
    adjust(shop, -5, "a-1")
    await shop.settle()
    adjust(shop, -1, "a-2")
    await shop.settle()
    at = shop.home(LAMP)
    assert [each.reason for each in shop.instances["inventory"].database.parked[at].values()] == ["Refused"]

    assert await parked_again(shop, "inventory", at, monkeypatch) == [(1, "Refused", False)]


async def test_a_refused_request_waits_also_when_it_was_read_together_with_what_was_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    monkeypatch.setattr(owed, "RECORDS", 1)
    shop.stock("lamp", 2)
    adjust(shop, -5, "a-1")
    adjust(shop, -1, "a-2")
    await shop.settle()

    assert await parked_again(shop, "inventory", shop.home(LAMP), monkeypatch) == [(1, "Refused", False)]
