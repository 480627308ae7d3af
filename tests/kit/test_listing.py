"""`pavane lanes list` while something does not answer: whatever can be known is told, and what cannot be is named."""

import json

import pytest
from confluent_kafka.admin import AdminClient

from infra.stack import Stack
from pavane.lanes.listing import NOT_ALL_ASKED, SOME_HALTED, print_lanes, stand_of
from pavane.lanes.reading import LogView
from tests.conftest import NewTopics
from tests.kit import reading
from tests.kit.running import PARTITIONS, Counting
from tests.kit.test_halts import done, heard_and_stopped
from tests.kit.test_skipping import desk
from tests.waiting import eventually

NOBODY = "127.0.0.1:1"


async def test_without_kafka_the_lanes_are_told_as_the_database_has_them(
    counting: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    await heard_and_stopped(counting)
    without_log = desk(counting)._replace(kafka=NOBODY)

    assert await print_lanes(without_log, (), as_json=False) == NOT_ALL_ASKED
    said = capsys.readouterr()
    assert said.out.count(" ? ") == said.out.count("goes on") == PARTITIONS
    assert f"Kafka at {NOBODY} (PAVANE_KAFKA) does not answer" in said.err

    assert await print_lanes(without_log, (), as_json=True) == NOT_ALL_ASKED
    told = json.loads(capsys.readouterr().out)
    assert [(lane["to_hear"], lane["held"]) for lane in told["lanes"]] == [(None, None)] * PARTITIONS
    assert len(told["unasked"]) == 1


async def test_a_database_that_does_not_answer_hides_no_other_services_lanes(
    counting: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    await heard_and_stopped(counting)
    both = desk(counting)
    both = both._replace(databases={"away": f"postgresql://{NOBODY}/away", **both.databases})

    assert await print_lanes(both, (), as_json=False) == NOT_ALL_ASKED
    said = capsys.readouterr()
    assert said.out.count("nobody holds it") == PARTITIONS
    assert "The database of away (PAVANE_DATABASE_AWAY) cannot be asked" in said.err


async def test_a_lane_goes_on_while_somebody_holds_it_and_is_told_when_nobody_does(
    counting: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    async def told() -> list[tuple[bool, str]]:
        return [(lane.held is True, lane.state) for lane in (await stand_of(desk(counting), ())).lanes]

    async def all_are(held: bool, state: str) -> None:
        async def it_is_so() -> bool:
            return await told() == [(held, state)] * PARTITIONS

        await eventually(it_is_so, 30, f"{state} is told of all lanes")

    instance = await counting.start()
    await all_are(True, "goes on")
    await instance.stop()
    counting.instances.clear()
    await all_are(False, "nobody holds it")
    capsys.readouterr()
    await print_lanes(desk(counting), (), as_json=True)
    assert [lane["held"] for lane in json.loads(capsys.readouterr().out)["lanes"]] == [False] * PARTITIONS


async def test_a_topic_that_is_not_there_any_more_is_named(
    counting: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    await heard_and_stopped(counting)
    admin = AdminClient({"bootstrap.servers": counting.bootstrap, "log_level": 0})
    topic = counting.counter.requests
    await done(admin.delete_topics([topic]))
    await eventually(lambda: topic not in admin.list_topics(timeout=10).topics)

    assert await print_lanes(desk(counting), (), as_json=False) == SOME_HALTED
    said = capsys.readouterr().out
    assert "a topic is missing" in said, "the lane that has heard it"
    assert f"Kafka has no topic {topic} any more" in said


async def test_the_first_records_of_many_partitions_are_read_at_once(
    stack: Stack, new_topics: NewTopics, new_name: str
) -> None:
    topic = new_name
    await new_topics(topic, partitions=3)
    written = [(topic, lane, b"", f"{lane}/{n}".encode(), ()) for lane in (0, 1) for n in range(4)]
    await reading.send(stack.addresses.kafka_bootstrap, *written)

    with LogView.at(stack.addresses.kafka_bootstrap) as log:
        found = log.first_records({(topic, 0): 2, (topic, 1): 0, (topic, 2): 0})
        assert {where: record.value for where, record in found.items()} == {(topic, 0): b"0/2", (topic, 1): b"1/0"}
        assert log.first_records({(topic, 0): 4}) == {}
        assert log.first_records({}) == {}
        assert [record.value for record in log.records(topic, 1, 1, 3, 10)] == [b"1/1", b"1/2"]
