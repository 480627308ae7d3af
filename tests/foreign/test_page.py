"""The page for foreign programs says what the code does."""

from infra import topics
from streams.kit import envelope
from streams.kit.lane import DEAD_LETTERS
from streams.kit.language import Language
from tests.foreign.page import named, programs, rows


def test_the_page_has_every_topic_and_every_event() -> None:
    language = Language.load()
    told = {named(topic)[0]: set(named(events)) for topic, _, events in rows("Topics")}
    dead = told.pop("<service>.dead-letters")
    assert dead == {"dead_letter_*"}
    assert told == {topic: set(language.names(topic)) for topic in language.topics}, "the table Topics of docs/log.md"


def test_the_page_says_which_topics_others_may_write() -> None:
    may = {named(topic)[0] for topic, may, _ in rows("Topics") if "write" in may}
    assert may == {topic.name for topic in topics.load() if topic.name.endswith(".requests")}
    assert all(topic.settings["retention.ms"] == "-1" for topic in topics.load()), "the page says: kept for ever"
    assert {topic.name for topic in topics.load() if topic.name.endswith(DEAD_LETTERS)}


def test_the_page_has_every_header_of_a_fact() -> None:
    request = envelope.of_request("orders.requests", 0, 1, [("traceparent", b"00-1-1-00")])
    written = envelope.write("orders", 0, 1, "OrderPlaced", {}, request)
    assert {name for cell, _ in rows("Headers") for name in named(cell)} == {name for name, _ in written}


def test_the_page_has_a_program_for_every_client() -> None:
    assert list(programs()) == ["with_aiokafka.py", "with_confluent.py", "WithJava.java"]
