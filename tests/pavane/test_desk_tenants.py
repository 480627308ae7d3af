"""What a shop is told of its dead letters when nobody can tell whose they are."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pavane.dead_letters.events import Events
from pavane.desk.tenants import _event_of
from streams.kit.errors import RegistryAway
from streams.kit.language import Language
from streams.kit.log import Record


class Away:
    async def schema_of(self, schema_id: int) -> str | None:
        raise RegistryAway("nobody answers")


async def test_while_the_registry_is_away_a_parked_record_is_not_said_to_be_somebody_elses() -> None:
    events = Events(Language.load(), cast("Any", Away()))
    item = SimpleNamespace(parked=SimpleNamespace(record=Record("orders", 0, 0, 0, b"k", b"\0\0\0\0\7x", ())))

    with pytest.raises(RegistryAway, match="the registry does not answer"):
        await _event_of(events, cast("Any", item), "shop")
