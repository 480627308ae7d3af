"""What a client's message is to those who read the log."""

from typing import cast

import pytest
from confluent_kafka import Message

from pavane.audit.log import HEADERS_UNREADABLE, headers_of, record_of
from streams.kit import envelope


class Strange:
    """A message of which one header has a name that is not UTF-8: the client breaks there."""

    def headers(self) -> None:
        b"\xff".decode()

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_767_268_800_000

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"


STRANGE = cast("Message", Strange())


@pytest.mark.parametrize("topic", ["billing", "orders.requests"])
def test_a_record_whose_headers_cannot_be_read_is_nobodys_fact(topic: str) -> None:
    record = record_of(topic, 0, 7, STRANGE)

    assert (record.offset, record.key, record.value) == (7, b"k", b"v")
    assert envelope.of_own(topic, 0, record.headers) is None


def test_that_headers_cannot_be_read_is_told_where_they_are_kept() -> None:
    assert headers_of(STRANGE) == [(HEADERS_UNREADABLE, None)]
