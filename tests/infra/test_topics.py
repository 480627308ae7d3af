"""topics.yaml: one line a service; made once; never with another number of partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import SettingWrong
from infra.topics import TOPICS_FILE, Topic, as_made, load


def named(topics: list[Topic]) -> dict[str, Topic]:
    return {topic.name: topic for topic in topics}


def test_the_topics_are_those_of_the_design() -> None:
    assert set(named(load(environment={}))) == {
        *("orders.requests", "inventory.requests"),
        *("orders", "inventory", "billing", "shipping"),
        *(f"{name}.dead-letters" for name in ("orders", "inventory", "billing", "shipping", "timeline")),
    }


def test_all_topics_have_the_same_number_of_partitions() -> None:
    assert {topic.partitions for topic in load(environment={})} == {4}
    assert {topic.partitions for topic in load(environment={"PAVANE_PARTITIONS": "7"})} == {7}


@pytest.mark.parametrize("value", ["many", "0", "-1"])
def test_a_wrong_number_of_partitions_is_named(value: str) -> None:
    with pytest.raises(SettingWrong, match=f"PAVANE_PARTITIONS .* is '{value}'; it must be from 1"):
        load(environment={"PAVANE_PARTITIONS": value})


@pytest.mark.parametrize("environment", [{}, {"PAVANE_PARTITIONS": "64"}])
def test_a_topic_that_is_missing_is_made_with_as_many_partitions_as_the_others(environment: dict[str, str]) -> None:
    topics = load(environment=environment)
    present = {topic.name: 64 for topic in topics if topic.name != "billing"}

    made = as_made(topics, present, is_named=bool(environment))

    assert {topic.partitions for topic in made} == {64}


def test_the_first_topics_are_made_with_the_number_that_is_named_or_the_files() -> None:
    for environment, number in (({}, 4), ({"PAVANE_PARTITIONS": "64"}, 64)):
        topics = load(environment=environment)

        assert {topic.partitions for topic in as_made(topics, {"strange": 7}, is_named=bool(environment))} == {number}


def test_another_number_than_the_others_have_is_refused_where_a_topic_is_missing() -> None:
    topics = load(environment={"PAVANE_PARTITIONS": "4"})
    present = {topic.name: 64 for topic in topics}

    assert as_made(topics, present, is_named=True) == topics, "topics may have more than they need"
    del present["billing"]
    with pytest.raises(SettingWrong, match=r"billing would be made with 4 .*'orders' 64.*PAVANE_PARTITIONS .*leave it"):
        as_made(topics, present, is_named=True)


def test_which_of_several_numbers_a_missing_topic_shall_have_is_not_guessed() -> None:
    topics = load(environment={})
    present = {topic.name: 64 for topic in topics if topic.name != "billing"} | {"orders": 128}

    with pytest.raises(SettingWrong, match="set PAVANE_PARTITIONS to the number with which they were made"):
        as_made(topics, present, is_named=False)

    named = load(environment={"PAVANE_PARTITIONS": "64"})
    assert as_made(named, present, is_named=True) == named


def test_a_new_service_is_one_line(tmp_path: Path) -> None:
    line = "  returns: {}\n"
    file = tmp_path / "topics.yaml"
    file.write_text(TOPICS_FILE.read_text().replace("  timeline:", f"{line}  timeline:"))

    added = set(named(load(file, {}))) - set(named(load(environment={})))

    assert added == {"returns", "returns.dead-letters"}


@pytest.mark.parametrize("topic", load(environment={}), ids=lambda topic: topic.name)
def test_nothing_is_deleted_by_age_or_size_or_compacted_whatever_the_clusters_defaults_are(topic: Topic) -> None:
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}

    assert kept.items() <= topic.settings.items()


def test_requests_get_the_logs_own_time() -> None:
    topics = named(load(environment={}))

    assert topics["orders.requests"].settings["message.timestamp.type"] == "LogAppendTime"


def test_an_unknown_word_is_named(tmp_path: Path) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text("partitions: 1\nservices: {orders: {retries: true}}\nsettings: {}\n")

    with pytest.raises(SettingWrong, match=r"'orders' has \['retries'\]; known are facts, requests, dead-letters"):
        load(file, {})
