"""`pavane lanes settle`: whatever number of partitions topics have now, nothing is lost and every lane goes on."""

import asyncio
import json
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from pavane.lanes.listing import DONE, SOME_HALTED, lanes_of, print_lanes
from pavane.lanes.settling import Settle
from pavane.operators.errors import NotAsked
from streams.kit import envelope
from streams.kit.errors import PartitionsChanged
from streams.kit.kafka import partition_of
from tests.conftest import NewTopics
from tests.kit import reading
from tests.kit.running import KEYS, NO_CAUSE, PARTITIONS, Counting
from tests.kit.test_halts import done, heard_and_stopped
from tests.kit.test_skipping import desk, until_total
from tests.waiting import eventually

GROWN = 5


@pytest.fixture
def admin(counting: Counting) -> AdminClient:
    return AdminClient({"bootstrap.servers": counting.bootstrap, "log_level": 0})


async def grow(admin: AdminClient, topic: str) -> None:
    await done(admin.create_partitions([NewPartitions(topic, GROWN)], operation_timeout=10.0))

    async def known() -> bool:
        listed = await asyncio.to_thread(admin.list_topics, topic, timeout=10)
        return len(listed.topics[topic].partitions) == GROWN

    await eventually(known, 10, "the broker that is asked knows of it")


async def settle(
    counting: Counting, keep: Path, lanes: int | None = None, *, dry_run: bool = False, says: bool = True
) -> int:
    wish = Settle(desk(counting), lanes, keep, says=says)
    return await wish.carry_out("ada", "it had grown", asks=False, dry_run=dry_run)


async def ask_astray(counting: Counting, *keys: str) -> list[int]:
    """Requests of a producer that spreads its keys over all that a topic has; where those are that nobody hears."""
    topic, add = counting.counter.requests, counting.counter.add
    places = [partition_of(key.encode(), GROWN) for key in keys]
    astray = [(key, place) for key, place in zip(keys, places, strict=True) if place >= PARTITIONS]
    await reading.send(
        counting.bootstrap, *((topic, place, key.encode(), add(key, 7), NO_CAUSE) for key, place in astray)
    )
    return [place for _, place in astray]


async def test_requests_written_beyond_the_lanes_are_said_again_where_they_are_heard(
    counting: Counting, admin: AdminClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    await grow(admin, counting.counter.requests)
    places = await ask_astray(counting, *KEYS)
    astray = len(places)
    instance = await counting.start()
    await eventually(lambda: instance.worker.halted.keys() == set(places), 30)

    assert "nobody hears" in str(instance.readiness()["halted"])
    capsys.readouterr()
    assert await print_lanes(desk(counting), (), as_json=False) == SOME_HALTED
    assert capsys.readouterr().out.count("nobody hears") == len(set(places))
    await counting.ask((key, 10))
    await until_total(counting, key, 13)  # whatever has a lane goes on meanwhile

    keep = tmp_path / "astray.jsonl"
    assert await settle(counting, keep, dry_run=True) == 0
    assert not keep.exists()
    shown = capsys.readouterr().out
    assert shown.count("would be said again in lane") == astray > 0
    assert await settle(counting, keep) == 0

    totals = {each: 7 for each in KEYS if partition_of(each.encode(), GROWN) >= PARTITIONS}
    totals[key] = totals.get(key, 0) + 13
    await counting.until_totals(totals)
    await eventually(lambda: instance.worker.halted == {}, 30)
    assert await print_lanes(desk(counting), (), as_json=True) == DONE
    assert [json.loads(line)["topic"] for line in keep.read_text().splitlines()] == [counting.counter.requests] * astray
    outcome = f"settled: {astray} records kept, {astray} of them said again"
    assert await counting.rows("SELECT who, what, why, outcome FROM operations") == [
        ("ada", "settle", "it had grown", outcome)
    ]
    capsys.readouterr()
    assert await settle(counting, keep) == 0
    assert "Nothing was changed" in capsys.readouterr().out


async def test_what_is_no_request_is_kept_and_shown_and_never_said(
    counting: Counting, admin: AdminClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await heard_and_stopped(counting)
    await grow(admin, counting.counter.requests)
    await reading.send(counting.bootstrap, (counting.counter.requests, GROWN - 1, b"", b"garbage", ()))
    keep = tmp_path / "astray.jsonl"

    assert await settle(counting, keep) == 0

    assert "would only be kept" in capsys.readouterr().out
    assert len(keep.read_text().splitlines()) == 1
    assert [lane for lane in await lanes_of(desk(counting), ()) if any(lane.to_hear.values())] == []


async def test_partitions_that_a_topic_lacks_are_made_again_and_each_lane_then_says_what_it_misses(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, tmp_path: Path
) -> None:
    key = await heard_and_stopped(counting)
    topic = counting.counter.requests
    await done(admin.delete_topics([topic]))
    await eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
    await new_topics(topic, partitions=PARTITIONS - 1)
    with pytest.raises(PartitionsChanged, match="pavane lanes settle"):
        await counting.start()

    assert await settle(counting, tmp_path / "none") == 0

    instance = await counting.start()
    await eventually(lambda: instance.worker.halted.keys() == {counting.partition(key)})
    assert "LogShorter" in {type(refusal).__name__ for refusal in instance.worker.halted.values()}


async def test_a_database_that_forgot_how_many_lanes_there_are_is_told(
    counting: Counting, admin: AdminClient, tmp_path: Path
) -> None:
    await grow(admin, counting.counter.requests)
    with pytest.raises(PartitionsChanged, match="no database remembers"):
        await counting.start()
    with pytest.raises(NotAsked, match="say it with --lanes"):
        await settle(counting, tmp_path / "none")

    assert await settle(counting, tmp_path / "none", PARTITIONS) == 0

    await counting.start()
    await counting.ask(("k1", 5))
    await until_total(counting, "k1", 5)
    with pytest.raises(NotAsked, match=f"--lanes 3: there are {PARTITIONS}"):
        await settle(counting, tmp_path / "none", 3)


async def test_what_others_have_overtaken_can_be_kept_and_not_said(
    counting: Counting, admin: AdminClient, tmp_path: Path
) -> None:
    await heard_and_stopped(counting)
    await grow(admin, counting.counter.requests)
    astray = await ask_astray(counting, *KEYS)
    keep = tmp_path / "astray.jsonl"

    assert await settle(counting, keep, says=False) == 0

    assert len(keep.read_text().splitlines()) == len(astray)
    assert [lane for lane in await lanes_of(desk(counting), ()) if any(lane.to_hear.values())] == []


async def test_a_file_that_cannot_be_written_is_told_before_anything_is_changed(
    counting: Counting, admin: AdminClient, tmp_path: Path
) -> None:
    await heard_and_stopped(counting)
    await grow(admin, counting.counter.requests)
    await ask_astray(counting, *KEYS)

    with pytest.raises(NotAsked, match="No such file or directory"):
        await settle(counting, tmp_path / "no such folder" / "astray.jsonl")

    assert await counting.rows("SELECT 1 FROM operations") == []
    assert await print_lanes(desk(counting), (), as_json=True) == SOME_HALTED


async def test_where_a_service_itself_has_spoken_there_is_a_lane_and_nothing_is_deleted(
    counting: Counting, admin: AdminClient, tmp_path: Path
) -> None:
    await heard_and_stopped(counting)
    name = counting.counter.name
    await grow(admin, name)
    headers = envelope.write(name, 3, 1, "Added", {}, envelope.of_request("r", 3, 0, ()))
    await reading.send(counting.bootstrap, (name, 3, b"k", b"v", headers))

    with pytest.raises(NotAsked, match=f"{name}/3 offset 0 is a fact of {name} itself"):
        await settle(counting, tmp_path / "none")


async def test_lanes_that_an_older_version_made_of_a_grown_topic_are_taken_back(
    counting: Counting, tmp_path: Path
) -> None:
    key = await heard_and_stopped(counting)
    made = "INSERT INTO lanes (partition, partition_count, epoch) SELECT p, 5, 1 FROM generate_series(2, 4) p"
    await counting.rows(made)

    assert await settle(counting, tmp_path / "none") == 0

    assert await counting.rows("SELECT DISTINCT partition_count FROM lanes") == [(PARTITIONS,)]
    assert set(await counting.epochs()) == set(range(PARTITIONS))
    await counting.start()
    await counting.ask((key, 10))
    await until_total(counting, key, 13)


async def test_databases_that_have_heard_more_lanes_than_others_remember_are_not_put_together(
    counting: Counting, tmp_path: Path
) -> None:
    await heard_and_stopped(counting)
    await counting.rows("INSERT INTO lanes (partition, partition_count, epoch, clock) VALUES (4, 5, 1, '{\"a\": 1}')")

    with pytest.raises(NotAsked, match="has heard lane 4, where others remember 2 lanes"):
        await settle(counting, tmp_path / "none")
