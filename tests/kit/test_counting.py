"""There are as many lanes as there were at first, whatever becomes of the topics."""

import pytest

from streams.kit.counting import lanes_among
from streams.kit.errors import PartitionsChanged


def test_topics_that_agree_say_how_many_lanes_there_are() -> None:
    assert lanes_among({"a": 4, "b": 4}, None) == 4


def test_a_topic_that_has_grown_changes_nothing_for_who_remembers() -> None:
    assert lanes_among({"a": 4, "b": 8}, 4) == 4
    assert lanes_among({"a": 8, "b": 8}, 4) == 4


@pytest.mark.parametrize(("counts", "known"), [({"a": 4, "b": 8}, None), ({"a": 4, "b": 3}, 4), ({"a": 3, "b": 3}, 4)])
def test_fewer_partitions_than_lanes_or_a_disagreement_without_memory_is_refused(
    counts: dict[str, int], known: int | None
) -> None:
    with pytest.raises(PartitionsChanged, match="pavane lanes settle"):
        lanes_among(counts, known)
