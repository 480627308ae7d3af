"""Who still has something to hear or to say, told from positions, clocks and the ends of the topics."""

import pytest

from pavane import settled
from pavane.settled import Heard
from streams.kit.log import Extent
from streams.kit.run import find, services

TOPICS = {topic for name in services() for topic in find(name).topics}
ENDS = {(topic, partition): Extent(0, 10) for topic in TOPICS for partition in range(2)}


def lane(service: str, partition: int, **changed: int) -> Heard:
    positions = dict.fromkeys(find(service).topics, 10) | changed
    return Heard(service, partition, positions, {service: 10} if find(service).says else {})


LANES = [lane(name, partition) for name in services() for partition in range(2)]


def waiting(lanes: list[Heard], ends: settled.Ends = ENDS) -> list[str]:
    return [*settled._unheard(lanes, ends), *settled._unsaid(lanes, ends)]


def test_everything_is_settled_when_all_have_heard_all_and_said_all() -> None:
    assert waiting(LANES) == []


def test_a_lane_that_is_behind_is_told() -> None:
    behind = [
        lane("billing", 1, orders=7) if (each.service, each.partition) == ("billing", 1) else each for each in LANES
    ]

    assert waiting(behind) == ["billing has 3 records of orders/1 to hear"]


def test_a_lane_that_was_never_taken_has_everything_to_hear() -> None:
    missing = [each for each in LANES if (each.service, each.partition) != ("shipping", 0)]

    assert "shipping has 10 records of billing/0 to hear" in waiting(missing)


def test_a_fact_that_is_committed_but_not_in_the_log_is_told() -> None:
    unsaid = [each._replace(clock={"orders": 12}, to_say=1) if each.service == "orders" else each for each in LANES]

    assert waiting([each._replace(to_say=0) for each in unsaid]) == [], "facts were given up"
    assert waiting(unsaid) == ["orders has 2 facts of lane 0 to say", "orders has 2 facts of lane 1 to say"]


async def test_what_is_still_waited_for_is_said_when_time_is_over() -> None:
    async def look() -> list[str]:
        return ["billing has 3 records of orders/1 to hear"]

    with pytest.raises(TimeoutError, match="after 0 seconds: billing has 3 records"):
        await settled._until_nothing(look, 1, 0.0)


def test_of_what_was_deleted_there_is_nothing_to_hear() -> None:
    assert waiting(LANES, {**ENDS, ("orders", 2): Extent(10, 10)}) == []
    assert "billing has 1 records of orders/2 to hear" in waiting(LANES, {**ENDS, ("orders", 2): Extent(10, 11)})
