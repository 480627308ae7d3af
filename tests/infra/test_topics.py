"""topics.yaml: one line a service; made once; never with another number of partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import SettingWrong
from infra.topics import TOPICS_FILE, Topic, load


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


def test_a_new_service_is_one_line(tmp_path: Path) -> None:
    line = "  loyalty: {}\n"
    file = tmp_path / "topics.yaml"
    file.write_text(TOPICS_FILE.read_text().replace("  timeline:", f"{line}  timeline:"))

    added = set(named(load(file, {}))) - set(named(load(environment={})))

    assert added == {"loyalty", "loyalty.dead-letters"}


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
