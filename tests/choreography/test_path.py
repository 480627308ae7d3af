"""The path of one order comes from the timeline's own database."""

from collections.abc import Iterator

import psycopg
import pytest

from infra.stack import Stack
from pavane.dance import path_of
from streams.kit.errors import WrongSetting

ORDER = "0190a000-0000-7000-8000-00000000d0ce"
TOLD = [("orders", "OrderPlaced"), ("inventory", "StockRejected"), ("orders", "OrderCancelled")]


@pytest.fixture
def timeline(stack: Stack) -> Iterator[str]:
    """A timeline that tells of the order; afterwards it does not, since the audit reads it too."""
    url = stack.addresses.postgres["timeline"]
    with psycopg.connect(url) as connection:
        for number, (speaker, fact) in enumerate(TOLD):
            connection.execute(
                "INSERT INTO entries (id, order_id, ordinal, fact, speaker, at, cause, correlation, detail) "
                "VALUES (%s, %s, %s, %s, %s, now(), '', '', '{}')",
                [f"{speaker}/0/dance-{number}", ORDER, number, fact, speaker],
            )

    yield url
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM entries WHERE order_id = %s", [ORDER])


def test_the_path_of_an_order_is_what_the_timeline_tells_of_it(timeline: str) -> None:
    assert path_of(timeline, ORDER) == [("orders.requests", "PlaceOrder"), *TOLD]


def test_an_order_that_the_timeline_does_not_know_is_told(stack: Stack) -> None:
    with pytest.raises(WrongSetting, match="the timeline knows no order nowhere"):
        path_of(stack.addresses.postgres["timeline"], "nowhere")
