"""A replay of requests in plain text says the same as then, though what was said then is protected. Pure."""

from typing import Any

from pavane.replay.outcome import Outcome, Said
from streams.kit.protection import DataKey

KEY = DataKey.new()


def placed(customer: str, street: str, total: int = 5) -> Outcome:
    fields: dict[str, Any] = {"customer": customer, "ship_to": {"street": street}, "total": total}
    return Outcome([Said("OrderPlaced", "1", fields)])


WAS = placed(KEY.protect("customer", "c7"), KEY.protect("street", "Main 1"))


def test_plain_text_where_a_token_stood_is_no_difference() -> None:
    assert placed("c7", "Main 1").protected_as(WAS).same_as(WAS)


def test_anything_else_still_is() -> None:
    other = placed(DataKey.new().protect("customer", "c7"), "Main 1")

    assert not placed("c7", "Main 1", total=6).protected_as(WAS).same_as(WAS)
    assert not other.protected_as(WAS).same_as(WAS)
    assert not Outcome().protected_as(WAS).same_as(WAS)
    assert not Outcome([*WAS.said, *WAS.said]).protected_as(WAS).same_as(WAS)
    assert not WAS.protected_as(placed("c7", "Main 1")).same_as(placed("c7", "Main 1"))
